"""Leaves a server alone for a while after it failed, so that its absence costs no one a wait."""

from __future__ import annotations

import random
import threading

from argus.clock import Clock


class Breaker:
    """Says whether a call may be tried. Safe for several threads.

    After a failure nobody calls for `first_s`, after each further one twice as long, up to
    `most_s`, times a random factor of 0.5 to 1 so that nodes do not come back in step. When the
    time is over one caller tries; the others wait for its result.
    """

    def __init__(
        self, clock: Clock, first_s: float = 0.5, most_s: float = 30.0, seed: int | None = None
    ) -> None:
        self._clock = clock
        self._first_s = first_s
        self._most_s = most_s
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._failures = 0
        self._closed_until_s = 0.0
        self._trying = False

    def may_call(self) -> bool:
        """Whether to call now; who is told so must report with `succeeded` or `failed`."""
        with self._lock:
            if not self._failures:
                return True
            if self._trying or self._clock.now() < self._closed_until_s:
                return False
            self._trying = True
            return True

    def succeeded(self) -> None:
        """Everything is well again."""
        with self._lock:
            self._failures = 0
            self._trying = False

    def failed(self) -> None:
        """The call failed."""
        with self._lock:
            pause_s = min(self._most_s, self._first_s * 2.0**self._failures)
            # Callers that were under way when it broke must not lengthen the pause.
            if not self._failures or self._trying:
                self._failures = min(self._failures + 1, 32)
                self._closed_until_s = self._clock.now() + pause_s * self._random.uniform(0.5, 1.0)
            self._trying = False
