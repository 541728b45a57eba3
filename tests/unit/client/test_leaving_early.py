"""Who stops listening gives the request up: nothing keeps running on the server."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, closing

import pytest

from argus.client import AsyncClient, Client, Queued, Retries, Started
from argus.errors import InvalidArgumentError, UnavailableError
from tests.unit.client.scripted import Scripted, all_ended


async def test_leaving_an_asynchronous_stream_early_cancels_the_call(scripted: Scripted) -> None:
    async with AsyncClient(scripted.address) as client:
        async with aclosing(client.stream("slow")) as events:
            assert isinstance(await anext(events), Queued)
        await asyncio.wait_for(scripted.images.cancelled.wait(), 5)
        await all_ended(scripted)


async def test_breaking_out_of_an_asynchronous_loop_is_enough(scripted: Scripted) -> None:
    async with AsyncClient(scripted.address) as client:
        async for _ in client.stream("slow"):
            break
        await asyncio.wait_for(scripted.images.cancelled.wait(), 5)


async def test_cancelling_the_task_cancels_the_call(scripted: Scripted) -> None:
    async with AsyncClient(scripted.address) as client:
        task = asyncio.create_task(client.generate("slow"))
        while not scripted.images.running:  # noqa: ASYNC110 - the server has no such event
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(scripted.images.cancelled.wait(), 5)


async def test_leaving_an_asynchronous_map_early_cancels_the_rest(scripted: Scripted) -> None:
    async with AsyncClient(scripted.address) as client:
        async with aclosing(client.map(["p", "slow", "slow"], concurrency=3)) as results:
            await anext(results)
        await all_ended(scripted)
    assert scripted.images.cancelled.is_set()


async def test_cancelling_the_task_cancels_all_its_images(scripted: Scripted) -> None:
    async with AsyncClient(scripted.address) as client:
        task = asyncio.create_task(client.images("slow", 3))
        while scripted.images.running < 3:  # noqa: ASYNC110 - the server has no such event
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await all_ended(scripted)


async def test_leaving_a_blocking_stream_early_cancels_the_call(scripted: Scripted) -> None:
    def leave_early() -> None:
        with Client(scripted.address) as client:
            for event in client.stream("slow"):
                if isinstance(event, Started):
                    break

    await asyncio.to_thread(leave_early)
    await asyncio.wait_for(scripted.images.cancelled.wait(), 5)


async def test_leaving_a_blocking_map_early_cancels_running_and_waiting(
    scripted: Scripted,
) -> None:
    patient = Retries(attempts=9, first_wait_s=600, longest_wait_s=600)

    def leave_early() -> None:
        with (
            Client(scripted.address, retries=patient) as client,
            closing(client.map(["p", "slow", "slow", "p"], concurrency=4)) as results,
        ):
            next(results)
            scripted.images.failures = [UnavailableError("no node")]

    await asyncio.wait_for(asyncio.to_thread(leave_early), 10)
    await all_ended(scripted)
    assert scripted.images.cancelled.is_set()


async def test_a_blocking_map_gives_up_waits_between_attempts(scripted: Scripted) -> None:
    scripted.images.failures = [UnavailableError("no node")]
    patient = Retries(attempts=9, first_wait_s=600, longest_wait_s=600)

    def fail_one() -> None:
        with Client(scripted.address, retries=patient) as client:
            list(client.map(["p", ""], concurrency=2, ordered=False))

    with pytest.raises(InvalidArgumentError):
        await asyncio.wait_for(asyncio.to_thread(fail_one), 10)
