"""Tasks that no node has, in the order in which they are due, with what they ask as columns."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from argus.control.backlog import due_s
from argus.control.choices import Choices
from argus.control.policy import Task
from argus.control.router import Decision

Floats = NDArray[np.float64]
Urgency = tuple[bool, float, int]
"""Orders waiting tasks, the smallest first."""
_FIRST_ROOM = 64


def urgency(task: Task) -> Urgency:
    """Return the place of a task: replays first, then by due time, then by arrival.

    A far deadline counts like none: else whoever gives one would wait behind all who give none.
    """
    return (not task.lost, due_s(task.arrived_s, task.deadline_at_s), task.order)


class Waiting:
    """A task in the line, with what it may become as far as nodes are there for it.

    Args:
        task: which.
        choices: what it may become.
        key: its place.

    Attributes:
        latest_s: when it must have begun to be on time at its fastest level; infinity without a
            deadline.
        least_s: device seconds that it takes at least.
        density: quality for the device seconds of its cheapest level.
        bound: where level and node were settled on arrival.
        pledged: whether it was accepted with the nodes that are there.
    """

    __slots__ = (
        "bound",
        "choices",
        "density",
        "key",
        "latest_s",
        "least_s",
        "pledged",
        "task",
    )

    def __init__(self, task: Task, choices: Choices, key: Urgency, pledged: bool = False) -> None:
        self.task = task
        self.choices = choices
        self.key = key
        self.latest_s = task.deadline_at_s - choices.fastest_s
        self.least_s = choices.least_s
        self.density = choices.least_quality / choices.least_s
        self.bound: Decision | None = None
        self.pledged = pledged

    @property
    def variants(self) -> frozenset[str]:
        """What it may be made with."""
        return self.choices.variants


class WaitingLine:
    """Waiting tasks, the most urgent first.

    Beside each stand two numbers, in arrays: `latest_s`, until when it must have begun to be on
    time at its fastest level (infinity without a deadline), and `least_s`, the device seconds that
    it takes at least. The arrays have room at both ends, so that the usual case, one goes at the
    head and one comes at the end, moves nothing.

    Attributes:
        entries: those in the line, in order; not to be changed from outside.
    """

    def __init__(self) -> None:
        self.entries: list[Waiting] = []
        self._columns = np.zeros((2, _FIRST_ROOM))
        self._start = 0
        self._least_sum_s = 0.0

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Waiting]:
        return iter(tuple(self.entries))

    @property
    def latest_s(self) -> Floats:
        """(n,) When each must have begun; a view."""
        return self._columns[0, self._start : self._start + len(self.entries)]

    @property
    def least_s(self) -> Floats:
        """(n,) Device seconds that each takes at least; a view."""
        return self._columns[1, self._start : self._start + len(self.entries)]

    @property
    def least_sum_s(self) -> float:
        """Device seconds that all together take at least."""
        return self._least_sum_s

    def share_before(self, key: Urgency) -> float:
        """Return the share of all work that goes before `key`."""
        place = self.place(key)
        if place == len(self.entries):
            return 1.0
        return float(self.least_s[:place].sum()) / self.least_sum_s

    def place(self, key: Urgency) -> int:
        """Return how many go before `key`; most often, all."""
        if not self.entries or self.entries[-1].key < key:
            return len(self.entries)
        return bisect_left(self.entries, key, key=_key)

    def add(self, entry: Waiting) -> None:
        """Put an entry where its key belongs."""
        index, count = self.place(entry.key), len(self.entries)
        self._make_room(count + 1)
        first, end = self._start + index, self._start + count
        if index < count:
            self._columns[:, first + 1 : end + 1] = self._columns[:, first:end].copy()
        self._columns[0, first] = entry.latest_s
        self._columns[1, first] = entry.least_s
        self._least_sum_s += entry.least_s
        self.entries.insert(index, entry)

    def remove(self, entry: Waiting) -> None:
        """Take out an entry.

        Raises:
            ValueError: it is not in the line.
        """
        index = self.place(entry.key)
        if index == len(self.entries) or self.entries[index] is not entry:
            raise ValueError(f"request {entry.task.id} is not waiting")
        first, end = self._start + index, self._start + len(self.entries)
        del self.entries[index]
        self._least_sum_s = self._least_sum_s - entry.least_s if self.entries else 0.0
        if index == 0:
            self._start += 1
        elif first + 1 < end:
            self._columns[:, first : end - 1] = self._columns[:, first + 1 : end].copy()

    def _make_room(self, count: int) -> None:
        if self._start + count <= self._columns.shape[1]:
            return
        held = self._columns[:, self._start : self._start + len(self.entries)].copy()
        if 2 * count > self._columns.shape[1]:
            self._columns = np.zeros((2, 4 * count))
        self._start = 0
        self._columns[:, : held.shape[1]] = held


_key = attrgetter("key")
