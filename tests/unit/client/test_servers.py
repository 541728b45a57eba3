"""Several coordinators of which one leads, seen by both clients."""

from __future__ import annotations

import asyncio

import pytest

from argus.client import AsyncClient, Client, Retries
from argus.errors import InvalidArgumentError, UnavailableError
from tests.unit.client.scripted import Scripted, scripted_server

STANDS_BY = UnavailableError("this coordinator stands by")
QUICK = Retries(attempts=3, first_wait_s=0.01, longest_wait_s=0.02)


async def test_a_client_finds_the_leader_and_stays_with_it(scripted: Scripted) -> None:
    async with scripted_server() as leader:
        scripted.images.failures = [STANDS_BY] * 9
        async with AsyncClient(f"{scripted.address},{leader.address}", retries=QUICK) as client:
            await client.generate("a red circle", seed=7, request_id="r")
            await client.variants()
            await client.status()
    assert [r.request_id for r in scripted.images.received] == ["r"]
    assert [r.request_id for r in leader.images.received] == ["r"]
    assert len(scripted.images.failures) == 8


async def test_a_request_that_is_lost_is_asked_of_the_next_with_the_same_id(
    scripted: Scripted,
) -> None:
    async with scripted_server() as other:
        scripted.images.loss = UnavailableError("the connection is gone")
        async with AsyncClient(f"{scripted.address},{other.address}", retries=QUICK) as client:
            result = await client.generate("a red circle", seed=7)
    (first,), (second,) = scripted.images.received, other.images.received
    assert first.request_id == second.request_id == result.request_id


async def test_the_blocking_client_does_the_same(scripted: Scripted) -> None:
    async with scripted_server() as leader:
        scripted.images.failures = [STANDS_BY]

        def ask() -> str:
            with Client(
                f"127.0.0.1:1,{scripted.address},{leader.address}", retries=QUICK
            ) as client:
                client.status()
                return client.generate("a red circle", seed=7, request_id="r").request_id

        assert await asyncio.to_thread(ask) == "r"
    assert len(leader.images.received) == 1


@pytest.mark.parametrize("wrong", ["a:1,a:1", "a:1,", "a:1,b", "a:1,b:99999"])
async def test_addresses_that_make_no_sense_are_refused(wrong: str) -> None:
    with pytest.raises(InvalidArgumentError, match="^server: "):
        AsyncClient(wrong)


async def test_a_key_is_held_back_where_any_of_the_servers_could_be_overheard() -> None:
    with pytest.raises(InvalidArgumentError, match=r"192\.0\.2\.1:1"):
        AsyncClient("127.0.0.1:1,192.0.2.1:1", api_key="argus_secret")
