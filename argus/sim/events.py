"""What will happen, in order of time; at equal times in the order in which it was made."""

from __future__ import annotations

import enum
import math
from heapq import heappop, heappush
from typing import Any


class Kind(enum.IntEnum):
    """What happens, and to what."""

    NODE = 0
    """A device has come to the end of something: node index, version of its plan."""
    RESIDENCY = 1
    """A load is done or may begin: node index, version."""
    FETCHED = 2
    """A row's fetch ended: row, node index."""
    PLAN = 3
    """The policy plans."""
    DIES = 4
    """A node dies: its loss."""
    NOTICED = 5
    """The control plane notices: the loss."""
    RETURNS = 6
    """The node joins again: the loss."""
    PLACE = 7
    """Residency is looked at."""


Event = tuple[float, int, Kind, Any, int]
"""Time, count, kind, what it happens to, a number."""
_ROUTINE = (Kind.NODE, Kind.PLAN, Kind.PLACE)


class Events:
    """A queue by time. Events of nodes that were planned anew are left in it; who takes them sees
    that their version is old."""

    def __init__(self) -> None:
        self._heap: list[Event] = []
        self._made = 0
        self.singular = 0
        """Events to come that are not a node's next step or the next plan."""

    @property
    def next_s(self) -> float:
        """When something happens next; infinity: never."""
        return self._heap[0][0] if self._heap else math.inf

    def push(self, at_s: float, kind: Kind, what: Any = None, number: int = 0) -> None:
        """Let something happen."""
        self._made += 1
        self.singular += kind not in _ROUTINE
        heappush(self._heap, (at_s, self._made, kind, what, number))

    def pop(self) -> Event:
        """Take the next event."""
        event = heappop(self._heap)
        self.singular -= event[2] not in _ROUTINE
        return event
