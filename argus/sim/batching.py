"""A true node that steps rows in batches, forward by forward where it matters.

It follows the engine (argus/engine/stepper.py): rows take and leave slots between two forwards; a
forward has the rows of one variant that are due first and fit into its lanes; of several variants
that one goes next which has the least slack, weighed by how full its forward is. The device does
one thing at a time: text is encoded when a row takes its slot, pixels are decoded when it is
through, and rows wait meanwhile. While one variant alone is in the slots nothing changes between
two endings, and time jumps from one to the next.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from argus.sim.node import Row

FILL_WEIGHT = 2.0
"""As in the engine (argus/engine/schedule.py)."""
_EDGE = 1e-9
"""Forwards by which a sum of floats may miss the boundary that it means."""


@dataclass(frozen=True, slots=True)
class DeviceSeconds:
    """What a variant takes on one node; `step_s` by lanes, from 0 to the widest forward."""

    step_s: Sequence[float]
    text_encode_s: float
    decode_s: float


@dataclass(slots=True, eq=False)
class _Held:
    row: Row
    left: int

    @property
    def order(self) -> tuple[float, int]:
        return self.row.due_s, self.row.index


class BatchingNode:
    """Steps the rows in its slots together.

    Args:
        slots: rows that can hold a slot at once.
        max_lanes: of the widest forward.
        variants: what each takes here.
        drop_late: whether rows end at the first boundary after their deadline.
    """

    def __init__(
        self,
        slots: int,
        max_lanes: int,
        variants: Mapping[str, DeviceSeconds],
        drop_late: bool,
    ) -> None:
        self.next_s = math.inf
        self._slots = slots
        self._max_lanes = max_lanes
        self._variants = variants
        self._drop_late = drop_late
        self._line: list[tuple[float, int, Row]] = []
        self._held: list[_Held] = []
        """In slots, by due time."""
        self._batch: list[_Held] = []
        self._decoding: deque[Row] = deque()
        self._from_s = 0.0
        """When the first of the planned forwards begins."""
        self._forward_s = 1.0
        self._planned = 0
        """Forwards until something changes."""

    def add(self, row: Row, now_s: float) -> list[Row]:
        """Take a row; it joins at the next boundary, at once on an idle device."""
        heappush(self._line, (row.due_s, row.index, row))
        if not self._held and not self._decoding:
            return self._go_on(now_s)
        if not self._decoding and len(self._held) < self._slots:
            self._stop_after(math.ceil((now_s - self._from_s) / self._forward_s - _EDGE))
        return []

    def advance(self, now_s: float) -> tuple[list[Row], list[Row]]:
        """Make the planned forwards, or end a decoding; then go on."""
        ended: list[Row] = []
        if self._decoding:
            ended.append(self._decoding.popleft())
        else:
            ended += self._make_forwards(now_s)
        while self._decoding and not self._decode_s(self._decoding[0]):
            ended.append(self._decoding.popleft())
        if self._decoding:
            self.next_s = now_s + self._decode_s(self._decoding[0])
            return ended, []
        return ended, self._go_on(now_s)

    def steps_done(self, now_s: float) -> list[tuple[Row, int]]:
        """Return the rows in slots, each with the steps it has made."""
        made = int((now_s - self._from_s) / self._forward_s + _EDGE)
        made = min(max(0, made), self._planned)
        stepping = {id(held) for held in self._batch}
        return [
            (x.row, x.row.forwards - x.left + (made if id(x) in stepping else 0))
            for x in self._held
        ]

    # -- between forwards -----------------------------------------------------------------------

    def _make_forwards(self, now_s: float) -> list[Row]:
        """Let the batch have made its forwards; return rows that end without a picture."""
        for held in self._batch:
            held.left -= self._planned
        self._decoding.extend(held.row for held in self._held if not held.left)
        self._held = [held for held in self._held if held.left]
        if not self._drop_late:
            return []
        late = [held.row for held in self._held if held.row.task.deadline_at_s < now_s]
        for row in late:
            row.dropped = True
        self._held = [held for held in self._held if not held.row.dropped]
        return late

    def _go_on(self, now_s: float) -> list[Row]:
        """Give free slots away and plan the next forwards; return the rows that took one."""
        started = []
        self._from_s = now_s
        while self._line and len(self._held) < self._slots:
            row = heappop(self._line)[2]
            row.start_s = now_s
            self._held.append(_Held(row, row.forwards))
            self._from_s += self._variants[row.variant].text_encode_s * row.factor
            started.append(row)
        if started:
            self._held.sort(key=lambda held: held.order)
        self._plan()
        return started

    def _plan(self) -> None:
        self._batch, self._planned, self.next_s = [], 0, math.inf
        if not self._held:
            return
        variants = dict.fromkeys(held.row.variant for held in self._held)
        batches = [self._fill(variant) for variant in variants]
        self._batch = min(batches, key=self._urgency)
        factor = sum(held.row.factor for held in self._batch) / len(self._batch)
        self._forward_s = self._step_s(self._batch) * factor
        self._planned = min(held.left for held in self._batch) if len(batches) == 1 else 1
        if self._drop_late:
            first_s = min(held.row.task.deadline_at_s for held in self._held)
            left_s = first_s - self._from_s
            self._planned = min(self._planned, max(1, math.ceil(left_s / self._forward_s + _EDGE)))
        self.next_s = self._from_s + self._planned * self._forward_s

    def _stop_after(self, forwards: int) -> None:
        """Let something change after fewer forwards than planned."""
        if forwards < self._planned:
            self._planned = max(0, forwards)
            self.next_s = self._from_s + self._planned * self._forward_s

    def _fill(self, variant: str) -> list[_Held]:
        room = self._max_lanes
        chosen = []
        for held in self._held:
            if held.row.variant == variant and held.row.lanes <= room:
                room -= held.row.lanes
                chosen.append(held)
                if not room:
                    break
        return chosen

    def _urgency(self, batch: list[_Held]) -> float:
        first = batch[0]
        variant = first.row.variant
        wanted = sum(held.row.lanes for held in self._held if held.row.variant == variant)
        step_s = self._variants[variant].step_s[min(wanted, self._max_lanes)]
        slack_s = first.row.due_s - self._from_s - first.left * step_s
        filled = sum(held.row.lanes for held in batch) / self._max_lanes
        return slack_s - FILL_WEIGHT * filled * step_s

    def _step_s(self, batch: list[_Held]) -> float:
        lanes = sum(held.row.lanes for held in batch)
        return self._variants[batch[0].row.variant].step_s[lanes]

    def _decode_s(self, row: Row) -> float:
        return self._variants[row.variant].decode_s * row.factor
