"""The time kept free when tasks are accepted, as learned from those that were given up.

Whether a task can be on time behind those who wait is worked out as if nodes took rows one by one,
whenever they are free. Rows that step together leave together, and who just misses a batch waits
for the next: some are accepted that must be given up before they begin. Their share is held to what
is tolerated by moving a reserve: up when one is given up or is late, and down by little when one
begins, so that it stays where the two balance (Gibbs and Candès, Adaptive Conformal Inference,
NeurIPS 2021).
"""

from __future__ import annotations

import math

TOLERATED = 0.01
"""Share of the accepted that may be given up or be late."""
STEP = 0.05
"""By how much the reserve grows with one of them."""
MOST = 1.0
"""Relative to the seconds of the task's fastest level, as all of these."""
FORGET_S = 300.0
"""Time in which a third of it is left: what made it necessary may be over, and where few tasks come
it would take hours to find out."""


class Reserve:
    """Learned from every task with a deadline that began, or could not any more."""

    def __init__(self) -> None:
        self._share = 0.0
        self._at_s = 0.0

    def note(self, late: bool, now_s: float) -> None:
        """Take in that an accepted task began, or was given up for its deadline or late by it."""
        moved = self.share(now_s) + STEP * (late - TOLERATED)
        self._share = min(MOST, max(0.0, moved))
        self._at_s = now_s

    def share(self, now_s: float) -> float:
        """Return what is kept free, relative to the seconds of a task's fastest level."""
        return self._share * math.exp(-max(0.0, now_s - self._at_s) / FORGET_S)

    def restore(self, share: float, at_s: float) -> None:
        """Go on with the share that another process had at a time on this clock.

        Raises:
            ValueError: it makes no sense; nothing of it is taken then.
        """
        if not 0.0 <= share <= MOST:
            raise ValueError(f"the time kept free must be from 0 to {MOST:g}, not {share}")
        self._share, self._at_s = share, at_s
