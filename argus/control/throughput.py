"""How much of the predicted work full nodes really get done.

Whether a queue is worked off in time depends on the work that nodes do a second, which predictions
of single rows do not tell: what they leave out of every row (a picture to compress, a processor
that others want too) adds up over a hundred rows to seconds, and the end of the queue is late.
"""

from __future__ import annotations

import math

MEMORY_S = 10.0
"""Seconds of a node's work after which what was seen counts a third."""
ENOUGH_S = 2.0
"""Seconds of full nodes that must have been seen."""
TOLERATED = 0.95
"""A share that is no reason to think that predictions are wrong: rows jitter."""
LEAST = 0.2


class Throughput:
    """Compares the predicted device seconds of rows that ended with the time they took to end.

    Only the time between two ends on a node counts that was full at both, with others waiting:
    there was something to do all the while, whatever the order and the batches.
    """

    def __init__(self) -> None:
        self._work_s = self._time_s = 0.0
        self._ended_s: dict[str, float] = {}
        """By node, when its last row ended, of those that were full then."""

    def ended(self, node: str, work_s: float, full: bool, now_s: float) -> None:
        """Take in a row that ended.

        Args:
            node: its name.
            work_s: predicted device seconds of the row in a full batch; 0 where it was too late.
            full: whether the node had no room, and others waited for it.
            now_s: the time.
        """
        before_s = self._ended_s.pop(node, None)
        if not full:
            return
        self._ended_s[node] = now_s
        if before_s is None:
            return
        # A node that was away for long is dealt with as lost, not as slow.
        taken_s = min(MEMORY_S, now_s - before_s)
        kept = math.exp(-taken_s / (MEMORY_S * len(self._ended_s)))
        self._work_s = self._work_s * kept + work_s
        self._time_s = self._time_s * kept + taken_s

    def lost(self, node: str) -> None:
        """Note that a row of a node did not end there."""
        self._ended_s.pop(node, None)

    @property
    def share(self) -> float:
        """Of the predicted work that nodes get done in a time, at most 1."""
        if self._time_s < ENOUGH_S:
            return 1.0
        return min(1.0, max(LEAST, self._work_s / self._time_s / TOLERATED))
