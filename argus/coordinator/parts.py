"""Parts that are done one after the other, and none of which may end or starve the others."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from argus.clock import Clock

log = logging.getLogger(__name__)

AGAIN_S = 60.0
"""What fails every time is logged once in so many seconds."""


class Parts:
    """Logs what goes wrong in a part, and lets the next one begin.

    Args:
        clock: where the time comes from.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._logged_s: dict[str, float] = {}

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Do what is in the block; it may raise whatever it likes.

        Args:
            name: of the part, for people; it should not name what it is done to.
        """
        try:
            yield
        except Exception:
            self.failed(name)

    def failed(self, name: str) -> None:
        """Log what a part failed with; to be called where it is caught."""
        now_s = self._clock.now()
        logged_s = self._logged_s.get(name)
        if logged_s is None or now_s - logged_s >= AGAIN_S:
            self._logged_s[name] = now_s
            log.exception("%s failed; everything else goes on", name)
