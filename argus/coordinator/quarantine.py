"""What a request that kills nodes is told by, without harm to those that stood beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from argus.control.backlog import NodeBacklog
from argus.control.router import takers
from argus.coordinator.flight import Flight

MOST_STRIKES = 2
"""Nodes that may die of a request."""
TOGETHER_S = 0.3
"""Nodes that share a power line, a switch or a parent process die together, of nothing that they
were given; a request that went from one to the next at once would be convicted of it. So all nodes
must have been heard of later than this after the first death, and what was under way by then."""


class Quarantine:
    """Requests that were beginning or ending on a node when it died.

    One of them may be what killed it. They are made again as any other, but not before the other
    nodes have shown that they live, and never two of them on one node: the next node that dies of
    one of them then convicts that one alone.
    """

    def __init__(self) -> None:
        self._held: dict[str, Flight] = {}
        self._loose: dict[str, Flight] = {}

    def __len__(self) -> int:
        return len(self._held) + len(self._loose)

    def take(self, flight: Flight) -> None:
        """Keep a request, which waits in the policy's line, from being started."""
        self._loose.pop(flight.id, None)
        self._held[flight.id] = flight
        flight.hold(True)

    def may_be_on(self, flight: Flight, node: str) -> bool:
        """Return whether a node has no other of them."""
        return node not in self._elsewhere(flight)

    def found(self, flight: Flight) -> None:
        """Note that a node that was lost has come back with a request."""
        self._held.pop(flight.id, None)
        self._loose[flight.id] = flight

    def drop(self, flight: Flight) -> None:
        """Forget a request that has ended; any other is ignored."""
        self._held.pop(flight.id, None)
        self._loose.pop(flight.id, None)

    def let_go(self, nodes: Sequence[NodeBacklog], heard_s: float) -> None:
        """Let requests be started, the most urgent first, on nodes that have none of them.

        Args:
            nodes: that take rows.
            heard_s: since when every node that there is has been heard of.
        """
        if not self:
            return
        self._take_back(nodes)
        for flight in sorted(self._held.values(), key=lambda one: one.deadline_at_s):
            if heard_s < flight.struck_s + TOGETHER_S:
                continue
            others = self._elsewhere(flight)
            free = [x for x in nodes if x.info.name not in others]
            if len(free) > self._waiting and any(takers(offer, free) for offer in flight.offers):
                del self._held[flight.id]
                self._loose[flight.id] = flight
                flight.hold(False)
        for flight in self._loose.values():
            flight.task.avoid = self._to_avoid(flight, nodes)

    def sent(self, flight: Flight, nodes: Sequence[NodeBacklog]) -> None:
        """Keep the others off the node that a request was sent to; any other is ignored."""
        if flight.id in self._loose:
            self._take_back(nodes)
            for other in self._loose.values():
                if other is not flight:
                    other.task.avoid = self._to_avoid(other, nodes)

    def _take_back(self, nodes: Sequence[NodeBacklog]) -> None:
        """Keep those that were let go of and that only nodes with another of them could make.

        What a policy is told to avoid holds only as long as there is another node.
        """
        for flight in [one for one in self._loose.values() if one.node is None]:
            others = self._elsewhere(flight)
            free = [node for node in nodes if node.info.name not in others]
            if not any(takers(offer, free) for offer in flight.offers):
                self.take(flight)

    @property
    def _waiting(self) -> int:
        """Requests let go of that no node has yet."""
        return sum(flight.node is None for flight in self._loose.values())

    def _elsewhere(self, flight: Flight) -> set[str]:
        """Return the nodes that have another of them."""
        others = (one.node for one in self._loose.values() if one is not flight)
        return {node for node in others if node is not None}

    def _to_avoid(self, flight: Flight, nodes: Iterable[NodeBacklog]) -> set[str]:
        """Return where a request must not go: also where it failed, while there is another."""
        others = self._elsewhere(flight)
        both = others | flight.failed_on
        left = [node for node in nodes if node.info.name not in both]
        return both if any(takers(offer, left) for offer in flight.offers) else others
