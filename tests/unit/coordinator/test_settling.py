"""New requests wait after a take-over until nodes have said what they have."""

from __future__ import annotations

import asyncio

import pytest

from argus.clock import ManualClock
from argus.coordinator.settling import Settling
from argus.errors import OverloadedError


async def waits(task: asyncio.Task[None]) -> bool:
    for _ in range(3):
        await asyncio.sleep(0)
    return not task.done()


async def test_nobody_waits_where_no_node_is_awaited() -> None:
    settling = Settling(ManualClock(), lambda name: False, 1)
    await settling.wait("r")
    settling.begin(["a"], 0.0)
    await settling.wait("r")


async def test_a_request_waits_for_all_nodes_unless_one_brings_it_along() -> None:
    known: set[str] = set()
    settling = Settling(ManualClock(), known.__contains__, 8)
    settling.begin(["a", "b"], 3.0)
    new, lost = (asyncio.create_task(settling.wait(name)) for name in ("new", "lost"))
    known.add("lost")
    settling.joined("a")
    assert not await waits(lost)
    assert await waits(new)
    settling.joined("stranger")
    assert await waits(new)
    settling.joined("b")
    assert not await waits(new)
    await settling.wait("later")


async def test_nodes_that_do_not_come_are_not_waited_for_longer_than_said() -> None:
    clock = ManualClock()
    settling = Settling(clock, lambda name: False, 8)
    settling.begin(["dead"], 3.0)
    new = asyncio.create_task(settling.wait("new"))
    clock.advance(2.9)
    settling.check()
    assert await waits(new)
    clock.advance(0.2)
    settling.check()
    assert not await waits(new)


async def test_those_who_wait_are_bounded() -> None:
    settling = Settling(ManualClock(), lambda name: False, 1)
    settling.begin(["a"], 3.0)
    first = asyncio.create_task(settling.wait("r0"))
    assert await waits(first)
    with pytest.raises(OverloadedError) as caught:
        await settling.wait("r1")
    assert caught.value.retry_after_s == pytest.approx(3.0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    second = asyncio.create_task(settling.wait("r2"))
    assert await waits(second)
    settling.joined("a")
    await second
