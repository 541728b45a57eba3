"""How much of the predicted work full nodes really get done.

Whether a queue is worked off in time depends on the work that nodes do a second, which predictions
of single rows do not tell: what they leave out of every row (a picture to compress, a processor
that others want too) adds up over a hundred rows to seconds, and the end of the queue is late.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

MEMORY_S = 10.0
"""Seconds of a node's work after which what was seen counts a third, unless those are few rows."""
MEMORY_ROWS = 16
"""Ends of rows, or of several together, that are remembered at least, over all nodes."""
ENOUGH_ROWS = 8
"""Of them, what must be remembered before it is believed: single rows jitter."""
TOLERATED = 0.95
"""A share that is no reason to think that predictions are wrong: rows jitter."""
TOGETHER = 0.1
"""Of their work's time: rows between whose ends there is no more ended together."""
AWAY = 3.0
"""Times the time of its work that a node which did something else took at least."""
QUIET_S, FORGET_S = 5.0, 15.0
"""After so long without anything that counts the share goes to 1, with the second as its time
constant. Who holds nodes for slow chooses levels so cheap that they are not full any more, and
would never hear otherwise."""
LONG = 2.0
"""Times the time between two ends that counted: a shorter one is not quiet."""


class Throughput:
    """Compares the predicted device seconds of rows that ended with the time they took to end.

    Only the time between two ends on a node counts that was full at both, with others waiting:
    there was something to do all the while, whatever the order and the batches. Rows that end
    together are looked at together; a time in which far less was done than usual is left out,
    since a node that moves weights or stands still meanwhile is not slow.
    """

    def __init__(self) -> None:
        self._work_s = self._time_s = self._rows = 0.0
        self._heard_s = -math.inf
        """When something last counted."""
        self._apart_s = 0.0
        """The longest recent time between two ends that counted."""
        self._spans: dict[str, _Span] = {}
        """By node, the last one of those that are full."""

    def ended(self, node: str, work_s: float, full: bool, now_s: float, made: bool = True) -> None:
        """Take in a row that ended.

        Args:
            node: its name.
            work_s: predicted device seconds, in a full batch, of what was done of the row.
            full: whether the node had no room, and others waited for it.
            now_s: the time.
            made: whether it was done, not left off.
        """
        span = self._spans.get(node)
        if not full:
            self._spans.pop(node, None)
        elif span is None:
            self._spans[node] = _Span(math.nan, now_s, 0.0)
        elif now_s - span.end_s <= TOGETHER * span.work_s:
            span.end_s = now_s
            span.work_s += work_s
        elif not made and now_s - span.end_s > AWAY * work_s:
            # Next to nothing was done of it: others had the node meanwhile, and end later.
            span.carried_s += work_s
        else:
            self._count(span, now_s)
            self._spans[node] = _Span(span.end_s, now_s, work_s + span.carried_s)

    def began(self, node: str, now_s: float) -> None:
        """Note that a row begins in a slot that was free: longer than for a message's time, if
        nobody was there who wanted it, and then the node had not always something to do."""
        span = self._spans.get(node)
        if span is not None and now_s - span.end_s > TOGETHER * span.work_s:
            del self._spans[node]

    def lost(self, node: str) -> None:
        """Note that a row of a node did not end there."""
        self._spans.pop(node, None)

    def _count(self, span: _Span, now_s: float) -> None:
        taken_s = span.end_s - span.begin_s
        if not taken_s <= AWAY * span.work_s:
            return
        self._time_s = self._remembered_s(now_s)
        self._heard_s = max(self._heard_s, now_s)
        kept = math.exp(-min(taken_s / (MEMORY_S * len(self._spans)), 1 / MEMORY_ROWS))
        self._work_s = self._work_s * kept + span.work_s
        self._time_s = self._time_s * kept + taken_s
        self._rows = self._rows * kept + 1.0
        self._apart_s = max(self._apart_s * kept, taken_s)

    def share(self, now_s: float) -> float:
        """Of the predicted work that nodes get done in a time, at most 1; less and less is left of
        what was seen while nodes are not full."""
        if self._rows < ENOUGH_ROWS:
            return 1.0
        share = self._work_s / self._remembered_s(now_s)
        return 1.0 if share >= TOLERATED else share

    def _remembered_s(self, now_s: float) -> float:
        """Return the time that the work took, less what is forgotten of its excess by now."""
        quiet_s = now_s - self._heard_s - max(QUIET_S, LONG * self._apart_s)
        left = math.exp(-max(0.0, quiet_s) / FORGET_S)
        return self._time_s - max(0.0, self._time_s - self._work_s) * (1.0 - left)


@dataclass(slots=True)
class _Span:
    """Rows of a node that ended together, and since when nothing else had; NaN: not known."""

    begin_s: float
    end_s: float
    work_s: float
    carried_s: float = 0.0
    """Work done since its end of rows that were left off."""
