"""Coordinators that take turns: one stands by, leads when the seat is free, and stands by again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from argus.coordinator.keeping import Save
from argus.coordinator.leadership import Leadership


class InTurn(Protocol):
    """What takes turns: a coordinator, made anew for each."""

    def start(self, bind: str) -> Awaitable[str]:
        """Listen, and return HOST:PORT; nothing is served before `lead`."""
        ...

    def lead(self, state: str, age_s: float, save: Save) -> Awaitable[None]:
        """Serve from now on, with what the leader before has left."""
        ...

    def stop(self) -> Awaitable[None]:
        """Finish what is in flight, and end; hand it over where the lead is lost meanwhile."""
        ...

    def hand_over(self, why: str) -> Awaitable[None]:
        """Leave what is in flight to the next leader, resign, and end."""
        ...

    def shown(self) -> AbstractAsyncContextManager[object]:
        """Show metrics inside the block."""
        ...


async def take_turns(
    make: Callable[[], InTurn],
    leadership: Leadership,
    stop: asyncio.Event,
    on_ready: Callable[[str], None],
) -> None:
    """Stand by and lead until `stop` is set.

    Args:
        make: returns a coordinator that knows nothing yet.
        leadership: contended for.
        stop: set to end.
        on_ready: called with HOST:PORT once the port is bound.

    Raises:
        ConfigError: the address cannot be listened on.
    """
    address = ""
    while not stop.is_set():
        coordinator = make()
        first, address = not address, await coordinator.start(address)
        try:
            async with coordinator.shown():
                if first:
                    on_ready(address)
                await _one_turn(coordinator, leadership, stop)
        finally:
            await leadership.resign()


async def _one_turn(coordinator: InTurn, leadership: Leadership, stop: asyncio.Event) -> None:
    """Wait for the seat, lead until it is lost or `stop` is set, and end the coordinator."""
    why, drain = "the coordinator is stopping", False
    try:
        taken = await leadership.campaign(stop)
        if taken is not None:
            await coordinator.lead(taken.state, taken.state_age_s, leadership.save)
            await first_of(leadership.lost.wait(), stop.wait())
            if leadership.lost.is_set():
                why = "this coordinator leads no more"
            # Where nobody can take over, what is in flight is finished as well as may be.
            drain = leadership.holds and not leadership.waiting
    finally:
        await (coordinator.stop() if drain else coordinator.hand_over(why))


async def first_of(*waits: Coroutine[Any, Any, object], within_s: float | None = None) -> None:
    """Wait until one of the waits is over, or for so many seconds; the others are called off."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
