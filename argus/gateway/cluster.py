"""The cluster as the coordinator last described it, and how it went over time."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from argus.client import AsyncClient
from argus.clock import Clock
from argus.errors import ArgusError, UnavailableError
from argus.gateway.sampling import Sample, sample_between
from argus.rpc.as_json import as_json
from argus.v1 import admin_pb2, image_pb2

log = logging.getLogger(__name__)

HISTORY_S = 900.0
"""How far back the dashboard can look."""
FRESH_S = 0.25
"""What was asked so long ago need not be asked again for a health check."""
STALE_POLLS = 5
"""Polls without an answer after which what is known is too old to vouch for."""


class Cluster:
    """Asks for the status regularly and remembers what came of it.

    Args:
        client: of the coordinator.
        clock: where the time comes from.
        poll_s: seconds between polls.
    """

    def __init__(self, client: AsyncClient, clock: Clock, poll_s: float) -> None:
        self._client = client
        self._clock = clock
        self._poll_s = poll_s
        self._status: admin_pb2.GetStatusResponse | None = None
        self._seen_s = 0.0
        self._failure: ArgusError = UnavailableError("the coordinator has not answered yet")
        self._history: deque[Sample] = deque(maxlen=max(2, round(HISTORY_S / poll_s)))
        self._asking = asyncio.Lock()
        self._asked_s = -math.inf
        self._changed = asyncio.Condition()
        self._polls = 0
        self._ended = False

    async def watch(self) -> None:
        """Poll for ever."""
        while True:
            await self.poll()
            await asyncio.sleep(self._poll_s)

    async def refresh(self) -> None:
        """Ask unless that was done just now, or is being done."""
        async with self._asking:
            if self._clock.now() - self._asked_s < FRESH_S:
                return
        await self.poll()

    async def poll(self) -> None:
        """Ask once; a coordinator that does not answer is noted, not raised."""
        async with self._asking:
            self._asked_s = self._clock.now()
            await self._ask()

    async def _ask(self) -> None:
        try:
            status = await self._client.status()
        except ArgusError as error:
            log.debug("no status: %s", error)
            self._failure = error
        else:
            now_s = self._clock.now()
            if self._status is not None:
                self._history.append(
                    sample_between(self._status, status, now_s, now_s - self._seen_s)
                )
            self._status, self._seen_s = status, now_s
        await self._tell()

    async def end(self) -> None:
        """Let those who wait for changes go."""
        self._ended = True
        await self._tell()

    async def _tell(self) -> None:
        self._polls += 1
        async with self._changed:
            self._changed.notify_all()

    async def next_poll(self) -> bool:
        """Wait for the next poll; return False when there will be none."""
        if not self._ended:
            polls = self._polls
            async with self._changed:
                await self._changed.wait_for(lambda: self._polls != polls)
        return not self._ended

    @property
    def status(self) -> admin_pb2.GetStatusResponse:
        """What the coordinator said last.

        Raises:
            ArgusError: it has not answered for some polls.
        """
        limit_s = STALE_POLLS * max(self._poll_s, 1.0)
        if self._status is None or self._clock.now() - self._seen_s > limit_s:
            raise self._failure
        return self._status

    def variant(self, name: str) -> image_pb2.Variant | None:
        """Return the variant of that name, or the default one; None where it is not known."""
        variants = self._status.variants if self._status is not None else ()
        return next((v for v in variants if name in ("", v.name)), None)

    def able_nodes(self) -> list[str]:
        """Return the names of the nodes that take work.

        Raises:
            ArgusError: the coordinator does not answer.
        """
        return [node.hello.node for node in self.status.nodes if not node.draining]

    def shown(self) -> dict[str, Any]:
        """Return everything for the dashboard, ready for JSON."""
        shown: dict[str, Any] = {"reachable": True, "error": None, "status": None}
        try:
            shown["status"] = as_json(self.status)
        except ArgusError as error:
            shown |= {"reachable": False, "error": str(error)}
        return shown

    def history(self) -> list[Mapping[str, Any]]:
        """Return the samples, oldest first, with their age."""
        now_s = self._clock.now()
        return [_aged(sample, now_s) for sample in self._history]

    def newest(self) -> Mapping[str, Any] | None:
        """Return the last sample with its age, or None before there is one."""
        return _aged(self._history[-1], self._clock.now()) if self._history else None


def _aged(sample: Sample, now_s: float) -> Mapping[str, Any]:
    fields = asdict(sample)
    return {"age_s": round(now_s - fields.pop("at_s"), 2), **fields}
