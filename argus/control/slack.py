"""How much room the waiting tasks leave: whether each can begin in time at its fastest level.

Tasks are started in the order of the line on whichever node is free, so that all nodes are busy
until a task begins: it begins at the latest when the nodes together have done what is running and
the tasks before it (Graham 1966). With `N` nodes, `R` device seconds running and `m` the least
device seconds of each task, task `k` is on time at its fastest level when

    N · (latest start of k − now) ≥ R + Σ_{i<k} m_i

(Hall's condition on the due times). The difference is its room: what may still be spent before it.
Where nodes get less done than is predicted of them (`argus.control.throughput`), `N` is less than
their number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from argus.control.line import Waiting, WaitingLine
from argus.control.margins import Margins
from argus.control.moment import Moment

_FEW = 24
"""Entries of a line below which arrays take longer than they save."""


@dataclass(frozen=True, slots=True)
class Short:
    """Not all can be on time.

    Attributes:
        before: of the line with the new task in it, the first that cannot.
        seconds: by how much.
    """

    before: int
    seconds: float


class Slack:
    """Asks the line.

    Args:
        line: who waits.
        margins: by how much rows take longer than predicted.
        relax: how far it counts that rows end one after the other: at 0, not at all, which is
            Graham's bound; at 1, as they do on average.
    """

    def __init__(self, line: WaitingLine, margins: Margins, relax: float) -> None:
        self._line = line
        self._margins = margins
        self._relax = relax

    def behind_s(self, entry: Waiting, index: int, moment: Moment, passes: int = 0) -> float:
        """Return the device seconds that a task may take beyond its least, for those behind.

        Args:
            entry: the task.
            index: its place in the line; the line's length for one that is not in it.
            moment: the fleet.
            passes: so many right before it in the line come after it all the same.
        """
        behind_s = np.inf
        count = len(self._line.entries)
        if index + 1 < count <= _FEW:
            behind_s = self._least_room_s(entry, index + 1, moment)
        elif index + 1 < count:
            behind_s = float(self._rooms_s(entry, moment)[index + 1 :].min())
        if passes:
            passed_s = float(self._rooms_s(entry, moment)[index - passes : index].min())
            behind_s = min(behind_s, passed_s - entry.choices.least_s)
        return behind_s

    def lets_pass(self, entry: Waiting, index: int, moment: Moment, passes: int) -> bool:
        """Whether a task may begin before those in front of it without making one of them late.

        Args:
            entry: the task.
            index: its place in the line.
            moment: the fleet.
            passes: how many right before it, at least 1, would come after it.
        """
        rooms_s = self._rooms_s(entry, moment)[index - passes : index]
        return float(rooms_s.min()) >= entry.choices.least_s

    def is_ample(self, entry: Waiting, moment: Moment, reserve_s: float = 0.0) -> bool:
        """Whether a new task is the last of the line and early enough even by Graham's bound."""
        if self._line.place(entry.key) < len(self._line):
            return False
        begins_s = (moment.running_s + self._line.least_sum_s) / moment.pace
        latest_s = entry.task.deadline_at_s - moment.now_s - entry.choices.fastest_s
        return begins_s + reserve_s <= latest_s

    def short(self, entry: Waiting, finish_s: float, moment: Moment) -> Short | None:
        """Return who would be late if a new task came into the line; None: nobody.

        Args:
            entry: the task.
            finish_s: predicted seconds until it would be done at its fastest level, were it first.
            moment: the fleet.
        """
        place = self._line.place(entry.key)
        if place:
            finish_s += float(self._line.least_s[:place].sum()) / moment.pace
        over_s = finish_s - (entry.task.deadline_at_s - moment.now_s)
        if over_s > 0:
            return Short(place, over_s)
        if place == len(self._line):
            return None
        before = self._rooms_s(entry, moment)[place:]
        after = before - entry.choices.least_s
        late = (after < 0) & (before >= 0)
        if not late.any():
            return None
        over_s = -float(after[late].min()) / moment.pace
        return Short(place + int(late.argmax()) + 1, over_s)

    def _rooms_s(self, entry: Waiting, moment: Moment) -> NDArray[np.float64]:
        """Return (n,) the room of each in the line."""
        least = self._line.least_s
        ahead = np.cumsum(least) - least + self._running_s(entry, moment)
        return np.asarray((self._line.latest_s - self._now_s(entry, moment)) * moment.pace - ahead)

    def _least_room_s(self, entry: Waiting, first: int, moment: Moment) -> float:
        """Return the least room of those from `first` on, faster where the line is short."""
        now_s, pace = self._now_s(entry, moment), moment.pace
        ahead_s = self._running_s(entry, moment)
        least_s = np.inf
        for index, other in enumerate(self._line.entries):
            if index >= first:
                least_s = min(least_s, (other.latest_s - now_s) * pace - ahead_s)
            ahead_s += other.least_s
        return least_s

    def _now_s(self, entry: Waiting, moment: Moment) -> float:
        """Return the time, later by what rows may take longer than predicted."""
        longest_s = max(entry.choices.fastest_s, entry.choices.whole_s)
        return moment.now_s + (self._margins.largest - 1.0) * longest_s

    def _running_s(self, entry: Waiting, moment: Moment) -> float:
        """Return the device seconds of started rows that delay a task."""
        return moment.running_s - self._relax * 0.5 * (moment.nodes - 1) * entry.choices.least_s
