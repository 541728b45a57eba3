"""A seat that does what a test says, for coordinators that contend for it."""

from __future__ import annotations

import asyncio

from argus.clock import Clock
from argus.coordinator.leadership import Taken
from argus.errors import UnavailableError

LEASE_S = 1.0


class Room:
    """One seat, as a server keeps it: whoever was silent for the lease loses it."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.epoch = 0
        self.state = ""
        self.holder: ScriptedSeat | None = None
        self.heard_s = 0.0

    def holder_now(self) -> ScriptedSeat | None:
        if self.holder is not None and self.clock.now() - self.heard_s >= LEASE_S:
            self.holder = None
        return self.holder


class ScriptedSeat:
    """One coordinator's way to it, which can be cut or slow."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.cut = False
        self.answers = asyncio.Event()
        self.answers.set()
        self.lets_go = asyncio.Event()
        """Set unless calling a question off, or leaving, takes its time."""
        self.lets_go.set()
        self.kept = 0
        self.waiting = 1

    async def take(self) -> Taken | None:
        self._reach()
        if self.room.holder_now() is not None:
            return None
        self.room.holder, self.room.heard_s = self, self.room.clock.now()
        self.room.epoch += 1
        return Taken(self.room.epoch, self.room.state)

    async def keep(self) -> int:
        self._reach()
        heard_s = self.room.clock.now()
        try:
            await self.answers.wait()
        finally:
            await self.lets_go.wait()
        if self.room.holder_now() is not self:
            raise UnavailableError("the session is gone")
        self.room.heard_s = heard_s
        self.kept += 1
        return self.waiting

    async def save(self, state: str) -> None:
        self._reach()
        self.room.state = state

    async def leave(self) -> None:
        await self.lets_go.wait()
        if self.room.holder is self:
            self.room.holder = None

    def _reach(self) -> None:
        if self.cut:
            raise UnavailableError("the server cannot be reached")
