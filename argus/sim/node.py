"""The true nodes: what rows really take, which the control plane can only expect."""

from __future__ import annotations

import math
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Protocol

from argus.control.policy import Task


@dataclass(slots=True, eq=False)
class Row:
    """A row on its way through a node.

    Attributes:
        index: of its arrival.
        task: what the policy knows.
        level: index in the ladder.
        seconds: of the level on a node of speed 1, alone.
        forwards: of the level.
        due_s: decides who goes first; ties by `index`.
        factor: of its service time.
        start_s: when it took its slot; NaN before.
        missed: whether its state was not there.
        dropped: whether it ended at its deadline without a picture.
    """

    index: int
    task: Task
    level: int
    variant: str
    lanes: int
    seconds: float
    forwards: int
    due_s: float
    factor: float
    start_s: float = math.nan
    missed: bool = False
    dropped: bool = False


class TrueNode(Protocol):
    """A device that makes rows. The run asks `next_s` after every call and comes back then."""

    next_s: float
    """When something happens next; infinity while idle."""

    def add(self, row: Row, now_s: float) -> list[Row]:
        """Take a row whose state is there; return the rows that took a slot at once."""
        ...

    def advance(self, now_s: float) -> tuple[list[Row], list[Row]]:
        """Let happen what happens at `next_s`; return the rows that ended and that took a slot."""
        ...

    def steps_done(self, now_s: float) -> list[tuple[Row, int]]:
        """Return the rows in slots, each with the steps it has reported."""
        ...


class SerialNode:
    """Makes one row after the other, the first due first: the published setting.

    Args:
        scale: of all seconds.
        drop_late: whether a row ends at its deadline.
    """

    def __init__(self, scale: float, drop_late: bool) -> None:
        self.next_s = math.inf
        self._scale = scale
        self._drop_late = drop_late
        self._row: Row | None = None
        self._step_s = 0.0
        self._line: list[tuple[float, int, Row]] = []

    def add(self, row: Row, now_s: float) -> list[Row]:
        """Take a row; it starts at once on an idle device."""
        if self._row is not None:
            heappush(self._line, (row.due_s, row.index, row))
            return []
        return [self._start(row, now_s)]

    def advance(self, now_s: float) -> tuple[list[Row], list[Row]]:
        """End the present row and start the next one."""
        assert self._row is not None
        ended = self._row
        self._row, self.next_s = None, math.inf
        started = [self._start(heappop(self._line)[2], now_s)] if self._line else []
        return [ended], started

    def steps_done(self, now_s: float) -> list[tuple[Row, int]]:
        """Return the present row with its whole steps."""
        row = self._row
        if row is None:
            return []
        return [(row, min(row.forwards, int((now_s - row.start_s) / self._step_s)))]

    def _start(self, row: Row, now_s: float) -> Row:
        seconds = row.seconds * self._scale * row.factor
        self._row = row
        self._step_s = seconds / row.forwards
        row.start_s = now_s
        self.next_s = now_s + seconds
        deadline_s = row.task.deadline_at_s
        if self._drop_late and self.next_s > deadline_s:
            # It is noticed between two steps.
            steps = max(0, math.ceil((deadline_s - now_s) / self._step_s))
            self.next_s = min(self.next_s, now_s + steps * self._step_s)
            row.dropped = True
        return row
