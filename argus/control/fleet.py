"""The nodes as policies see them: what each has to do, and whether it takes another row."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from argus.control.backlog import NodeBacklog
from argus.control.groups import Group, hardware
from argus.control.row_costs import RowShape

_STEADY = 0.02
"""Costs are looked up anew when nodes have become so much slower or faster."""


@dataclass(frozen=True, slots=True)
class ShapeCosts:
    """What a row of some shape costs the fleet, in seconds.

    Attributes:
        work_s: device seconds in full batches, the harmonic mean over the nodes: so many rows of
            it keep all of them busy for the sum of `work_s` divided by their number.
        idle_s: from start to end on the fastest node with nothing else to do.
        busy_s: from start to end in full batches, on the fastest node.
    """

    work_s: float
    idle_s: float
    busy_s: float


class Fleet:
    """Nodes by name, with the rows that each may hold, and equal ones in groups.

    What changes in a node is taken in with the next `refresh`, so that a decision looks at few
    nodes however many there are.
    """

    def __init__(self) -> None:
        self._nodes: dict[str, NodeBacklog] = {}
        self._limits: dict[str, int] = {}
        self._groups: tuple[Group, ...] | None = ()
        self._home: dict[str, Group] = {}
        self._dirty: dict[str, None] = {}
        self._costs: dict[RowShape, ShapeCosts | None] = {}
        self._pooled: dict[tuple[RowShape, ...], float] = {}
        self.is_partial = False
        """Whether some node does not serve what another one does."""
        self._slowness: dict[str, float] = {}
        self.epoch = 0
        """Changes when a node comes, goes, drains or serves other variants."""
        self.changes = 0
        """Changes with every row that comes or goes, too."""

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
        node.watch(self._note, self._forget_groups)
        self._forget_groups()

    def remove(self, name: str) -> None:
        """Forget a node; an unknown one is ignored."""
        if self._nodes.pop(name, None) is not None:
            del self._limits[name]
            self._forget_groups()

    def has_room(self, name: str, beyond: int = 0) -> bool:
        """Whether the node takes another row now, had it `beyond` more than it has."""
        return self._nodes[name].has_room_below(self._limits[name] - beyond)

    def has_slot(self, name: str) -> bool:
        """Whether the node would begin another row now."""
        node = self._nodes[name]
        return self.has_room(name) and len(node) < node.info.slots

    def with_room(self) -> Iterable[NodeBacklog]:
        """Return the nodes that take another row now."""
        return [node for name, node in self._nodes.items() if self.has_room(name)]

    # -- groups ---------------------------------------------------------------------------------

    def refresh(self, now_s: float) -> tuple[Group, ...]:
        """Return the groups as they are now; the times in them are on the clock of `now_s`."""
        if self._groups is None:
            self._make_groups()
        assert self._groups is not None
        if self._dirty:
            for name in self._dirty:
                group = self._home.get(name)
                if group is not None:
                    self._take_in(group, self._nodes[name], now_s)
            self._dirty.clear()
        return self._groups

    def _take_in(self, group: Group, node: NodeBacklog, now_s: float) -> None:
        name, takes, slowness = node.info.name, not node.draining, node.slowness
        is_open = self.has_room(name)
        has_slot = is_open and len(node) < node.info.slots
        took = group.update(name, now_s + node.work_s(), is_open, takes, has_slot)
        if took is not takes:
            self.epoch += 1
            self._forget_costs()
        if abs(slowness / self._slowness.get(name, 1.0) - 1.0) > _STEADY:
            self._slowness[name] = slowness
            self._forget_costs()

    def costs(self, shape: RowShape) -> ShapeCosts | None:
        """Return what a row costs; None where no node takes it. As of the last `refresh`."""
        costs = self._costs.get(shape)
        if costs is None and shape not in self._costs:
            costs = self._costs[shape] = self._measure(shape)
        return costs

    def _measure(self, shape: RowShape) -> ShapeCosts | None:
        able = [x for x in self._nodes.values() if not x.draining and x.holds(shape.variant)]
        if not able:
            return None
        rate = math.fsum(1.0 / node.device_s(shape) for node in able)
        return ShapeCosts(
            work_s=len(able) / rate,
            idle_s=min(node.idle_s(shape) for node in able),
            busy_s=min(node.busy_s(shape) for node in able),
        )

    def pooled_s(self, shapes: tuple[RowShape, ...]) -> float:
        """Return the device seconds of a row that may be of any of some shapes, for all nodes.

        Each node makes it as what is cheapest there. So many such rows keep all nodes busy for
        the sum divided by their number, as with `ShapeCosts.work_s`, though no node makes all.
        """
        found = self._pooled.get(shapes)
        if found is None:
            rates = []
            nodes = [node for node in self._nodes.values() if not node.draining]
            for node in nodes:
                own = [node.device_s(shape) for shape in shapes if node.holds(shape.variant)]
                rates.append(1.0 / min(own) if own else 0.0)
            rate = math.fsum(rates)
            found = self._pooled[shapes] = len(nodes) / rate if rate else math.inf
        return found

    def _forget_costs(self) -> None:
        self._costs.clear()
        self._pooled.clear()

    def _note(self, name: str) -> None:
        self._dirty[name] = None
        self.changes += 1

    def _forget_groups(self) -> None:
        self._groups = None
        self._forget_costs()
        self.epoch += 1
        self.changes += 1

    def _make_groups(self) -> None:
        by_kind: dict[object, list[NodeBacklog]] = {}
        for name in sorted(self._nodes):
            by_kind.setdefault(hardware(self._nodes[name]), []).append(self._nodes[name])
        self._groups = tuple(Group(nodes) for nodes in by_kind.values())
        self.is_partial = len({node.serving for node in self._nodes.values()}) > 1
        self._home = {n.info.name: group for group in self._groups for n in group.nodes}
        self._slowness = {name: node.slowness for name, node in self._nodes.items()}
        self._dirty = dict.fromkeys(self._nodes)
