"""The moments after a take-over, until the nodes have said which rows they have."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from argus.clock import Clock
from argus.errors import OverloadedError

log = logging.getLogger(__name__)


class Settling:
    """Holds back requests that are not known yet while nodes are awaited that may have their rows.

    A client that lost its coordinator asks the next one at once; were it accepted before the node
    that makes its picture has come, the picture would be made twice.

    Args:
        clock: where the time comes from.
        knows: whether a request of an id is in flight or remembered.
        most: requests held back at most.
    """

    def __init__(self, clock: Clock, knows: Callable[[str], bool], most: int) -> None:
        self._clock = clock
        self._knows = knows
        self._most = most
        self._awaited: set[str] = set()
        self._until_s = 0.0
        self._held = 0
        self._news = asyncio.Event()

    @property
    def over(self) -> bool:
        """Whether nothing is held back."""
        return not self._awaited

    def begin(self, nodes: Iterable[str], limit_s: float) -> None:
        """Wait for nodes, by name, for `limit_s` seconds at most."""
        self._awaited = set(nodes) if limit_s > 0 else set()
        self._until_s = self._clock.now() + limit_s

    def joined(self, node: str) -> None:
        """Note that a node has said what it has."""
        if self._awaited:
            self._awaited.discard(node)
            self._tell()

    def check(self) -> None:
        """Wait no longer for nodes that have not come in time; to be called regularly."""
        if self._awaited and self._clock.now() >= self._until_s:
            log.warning("no longer waited for: %s", ", ".join(sorted(self._awaited)))
            self._awaited.clear()
            self._tell()

    async def wait(self, request_id: str) -> None:
        """Wait until a request may be let in.

        Raises:
            OverloadedError: too many wait.
        """
        if self.over or self._knows(request_id):
            return
        if self._held >= self._most:
            left_s = max(0.05, self._until_s - self._clock.now())
            raise OverloadedError("this coordinator is taking over", retry_after_s=left_s)
        self._held += 1
        try:
            while not self.over and not self._knows(request_id):
                await self._news.wait()
        finally:
            self._held -= 1

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
