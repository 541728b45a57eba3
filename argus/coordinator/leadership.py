"""Which of several coordinators leads, and until when it may be sure of that.

What they contend for is a seat that one of them at a time can hold, such as a lock that a database
keeps for as long as a session lives (argus.coordinator.seat_postgres). The seat takes a session
away that is silent for the lease; a leader therefore trusts in its seat only until some time before
that, counted from when it asked last with success. Each taking of the seat has a number, the
epoch, greater than all before: nodes do not listen to a smaller one than they have seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import Protocol

from argus.clock import Clock
from argus.errors import UnavailableError

log = logging.getLogger(__name__)

TRUST = 0.8
"""Share of the lease that a leader trusts in its seat."""
BEATS = 5
"""Times that a leader asks within a lease."""
LET_GO_S = 0.5
"""For a question that was called off to end, before the seat is left all the same."""
POLL_S = 0.2
"""Between two attempts of those who wait."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What the new holder of a seat is told.

    Attributes:
        epoch: number of its leadership, from 1.
        state: what leaders before it left; empty: nothing.
        state_age_s: seconds since that was written.
    """

    epoch: int
    state: str = ""
    state_age_s: float = 0.0


class Seat(Protocol):
    """What coordinators contend for. Every method may raise UnavailableError: it is then lost."""

    async def take(self) -> Taken | None:
        """Take the seat; None where another one has it."""
        ...

    async def keep(self) -> int:
        """Make sure that the seat is still held; return how many wait for it."""
        ...

    async def save(self, state: str) -> None:
        """Leave something for the leaders to come."""
        ...

    async def leave(self) -> None:
        """Give the seat up, or stop waiting for it; raises nothing."""
        ...


class Leadership:
    """One coordinator's part in it. Must be made inside the event loop that uses it.

    Args:
        clock: monotonic.
        seat: contended for.
        lease_s: silence after which the seat is taken away.
    """

    def __init__(self, clock: Clock, seat: Seat, lease_s: float) -> None:
        self._clock = clock
        self._seat = seat
        self._lease_s = lease_s
        self._sure_until_s = 0.0
        self._holding: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[int] | None = None
        """The last question about the seat."""
        self.epoch = 0
        """Number of the present leadership; 0: another one leads, or nobody does."""
        self.since_s = 0.0
        self.waiting = 0
        """How many wait to take over."""
        self.lost = asyncio.Event()
        """Set when a leadership has ended that was not given up."""

    @property
    def holds(self) -> bool:
        """Whether nobody else can lead at this moment."""
        return self.epoch > 0 and self._clock.now() < self._sure_until_s

    def check(self) -> None:
        """Raise unless this coordinator leads.

        Raises:
            UnavailableError: it stands by.
        """
        if not self.holds:
            raise UnavailableError("this coordinator stands by; ask the one that leads")

    def epoch_held(self) -> int:
        """Return the number of the present leadership.

        Raises:
            UnavailableError: this coordinator stands by.
        """
        self.check()
        return self.epoch

    async def campaign(self, stop: asyncio.Event) -> Taken | None:
        """Wait for the seat and return what was left on it; None where `stop` was set first."""
        away = False
        while not stop.is_set():
            asked_s = self._clock.now()
            try:
                taken = await self._seat.take()
                away = False
            except UnavailableError as error:
                if not away:
                    log.warning("nobody can lead from here: %s", error)
                taken, away = None, True
            if taken is not None:
                self._begin(taken, asked_s)
                return taken
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), POLL_S)
        return None

    async def save(self, state: str) -> None:
        """Leave something for the leaders to come.

        Raises:
            UnavailableError: it could not be written.
        """
        self.check()
        await self._seat.save(state)

    async def resign(self) -> None:
        """Give the seat up, or stop waiting for it."""
        self.epoch = 0
        if self._holding is not None:
            self._holding.cancel()
            await asyncio.gather(self._holding, return_exceptions=True)
            self._holding = None
        asking, self._asking = self._asking, None
        if asking is not None:
            await asyncio.wait({asking}, timeout=LET_GO_S)
        await self._seat.leave()
        if asking is not None:
            # Else it might end the session of the next campaign.
            await asyncio.gather(asking, return_exceptions=True)

    def _begin(self, taken: Taken, asked_s: float) -> None:
        self.lost.clear()
        self.epoch, self.since_s = taken.epoch, self._clock.now()
        self._sure_until_s = asked_s + TRUST * self._lease_s
        self._holding = asyncio.create_task(self._hold())
        log.info("this coordinator leads: epoch %d", taken.epoch)

    async def _hold(self) -> None:
        """Ask again and again whether the seat is still held, until it is not."""
        while True:
            try:
                await self.beat()
            except UnavailableError as error:
                log.error("this coordinator leads no more: %s", error)
                break
            except Exception:
                log.exception("this coordinator leads no more")
                break
            await asyncio.sleep(self._lease_s / BEATS)
        self.epoch = 0
        self.lost.set()

    async def beat(self) -> None:
        """Make sure of the seat for some more time.

        Raises:
            UnavailableError: it is lost, or may be by now.
        """
        asked_s = self._clock.now()
        left_s = max(0.0, self._sure_until_s - asked_s)
        self._asking = asyncio.create_task(self._seat.keep())
        try:
            # A question may be slow to end when it is called off, too: that is not waited for.
            answered, _ = await asyncio.wait({self._asking}, timeout=left_s)
        except asyncio.CancelledError:
            self._asking.cancel()
            raise
        if not answered:
            self._asking.cancel()
            raise UnavailableError("nothing was heard of its seat in time")
        self.waiting = await self._asking
        if self._clock.now() >= self._sure_until_s:
            # However it was answered: another one may have led in between.
            raise UnavailableError("its seat was not asked about in time")
        self._sure_until_s = asked_s + TRUST * self._lease_s
