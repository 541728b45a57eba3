"""The nodes as policies see them: what each has to do, and whether it takes another row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from argus.control.backlog import NodeBacklog


class Fleet:
    """Nodes by name, with the rows that each may hold."""

    def __init__(self) -> None:
        self._nodes: dict[str, NodeBacklog] = {}
        self._limits: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._nodes)

    def __iter__(self) -> Iterator[NodeBacklog]:
        return iter(self._nodes.values())

    def __contains__(self, name: str) -> bool:
        return name in self._nodes

    def __getitem__(self, name: str) -> NodeBacklog:
        return self._nodes[name]

    def add(self, node: NodeBacklog, limit: int) -> None:
        """Add a node that may hold `limit` rows, in its slots and waiting for one."""
        self._nodes[node.info.name] = node
        self._limits[node.info.name] = limit

    def remove(self, name: str) -> None:
        """Forget a node; an unknown one is ignored."""
        self._nodes.pop(name, None)
        self._limits.pop(name, None)

    def has_room(self, name: str) -> bool:
        """Whether the node takes another row now."""
        node = self._nodes[name]
        return not node.draining and len(node) < self._limits[name]

    def with_room(self) -> Iterable[NodeBacklog]:
        """Return the nodes that take another row now."""
        return [node for name, node in self._nodes.items() if self.has_room(name)]
