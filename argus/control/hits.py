"""Whether states that rows are to start from are there, as learned from those that asked for one.

A row without its state runs every step, so a level that needs a state costs what it promises only
as often as the state is found. Now and then one is not (it was evicted, its node went); then the
cost is a mean of both. When most are not found, the store is out: planning with levels that do not
come true would promise more than the nodes can do. So those levels are left out until trials find
states again.
"""

from __future__ import annotations

import math

_QUICK, _BACK, _SLOW = 1 / 8, 1 / 2, 1 / 64
"""Weights of one fetch: while states are trusted, while they are not, and for the cost."""
_TRUSTED, _AGAIN = 0.5, 0.7
"""Share found lately below which states are given up, and above which they are used again."""
_TRIAL_EVERY_S = 2.0


class StateHits:
    """The chance that a state is found, and whether to count on it at all."""

    def __init__(self) -> None:
        self.chance = 1.0
        """Of finding one, for costs."""
        self.trusted = True
        """Whether levels that need a state are to be offered."""
        self._lately = 1.0
        self._tried_s = -math.inf

    def note(self, hit: bool) -> None:
        """Take in a fetch that ended."""
        self.chance += _SLOW * (hit - self.chance)
        self._lately += (_QUICK if self.trusted else _BACK) * (hit - self._lately)
        trusted = self._lately >= (_TRUSTED if self.trusted else _AGAIN)
        if trusted and not self.trusted:
            self._lately = 1.0
        self.trusted = trusted

    def may_try(self, now_s: float) -> bool:
        """Whether a new request may be made from a state: all while trusted, else one at times."""
        if self.trusted:
            return True
        if now_s - self._tried_s < _TRIAL_EVERY_S:
            return False
        self._tried_s = now_s
        return True
