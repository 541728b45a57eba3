"""The seat in a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import psycopg
import pytest
from local_postgres import LocalPostgres

from argus.coordinator.leadership import Taken
from argus.coordinator.seat_postgres import PostgresSeat
from argus.errors import UnavailableError

Seats = Callable[..., PostgresSeat]


@pytest.fixture
async def seats(postgres: LocalPostgres, request: pytest.FixtureRequest) -> AsyncIterator[Seats]:
    """Return a maker of seats, of a cluster that no other test has."""
    made: list[PostgresSeat] = []

    def make(cluster: str = "", lease_s: float = 30.0) -> PostgresSeat:
        made.append(PostgresSeat(postgres.dsn, f"{request.node.name}{cluster}", lease_s))
        return made[-1]

    yield make
    for seat in made:
        await seat.leave()


async def taken_again(seat: PostgresSeat) -> Taken:
    """Wait until the server has noticed that a session is over, and take the seat."""
    for _ in range(1000):
        if (taken := await seat.take()) is not None:
            return taken
        await asyncio.sleep(0.02)
    return pytest.fail("the seat never fell free")


async def test_one_session_holds_the_seat_and_the_next_gets_it_with_a_higher_epoch(
    seats: Seats,
) -> None:
    one, other, elsewhere = seats(), seats(), seats("elsewhere")
    first = await one.take()
    assert first is not None
    assert (first.epoch, first.state) == (1, "")
    assert await one.keep() == 0
    assert await other.take() is None
    assert await one.keep() == 1
    assert (await elsewhere.take()) is not None
    await one.save('{"a": 1}')
    await one.leave()
    second = await taken_again(other)
    assert (second.epoch, second.state) == (2, '{"a": 1}')
    assert 0 <= second.state_age_s < 60
    assert await other.keep() == 0


async def test_a_seat_whose_session_was_ended_is_lost_and_free(
    seats: Seats, postgres: LocalPostgres
) -> None:
    one, other = seats(), seats()
    await one.take()
    with psycopg.connect(postgres.dsn, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'argus-coordinator'"
        )
    with pytest.raises(UnavailableError, match="PostgreSQL: "):
        await one.keep()
    assert (await taken_again(other)).epoch == 2
    with pytest.raises(UnavailableError, match="no session"):
        await one.save("late")


async def test_a_session_that_falls_silent_loses_the_seat(seats: Seats) -> None:
    hanging, other = seats(lease_s=1.0), seats(lease_s=30.0)
    await hanging.take()
    assert (await taken_again(other)).epoch == 2
    with pytest.raises(UnavailableError):
        await hanging.keep()


async def test_what_a_leader_of_the_past_leaves_is_not_taken(
    seats: Seats, postgres: LocalPostgres
) -> None:
    """As after a session whose lock was taken away without its end, by a pooler."""
    one = seats()
    await one.take()
    with psycopg.connect(postgres.dsn, autocommit=True) as connection:
        connection.execute("UPDATE argus_leader SET epoch = epoch + 1")
    with pytest.raises(UnavailableError, match="epoch 1 is over"):
        await one.save("late")


async def test_a_lock_that_is_missing_is_noticed(seats: Seats) -> None:
    one = seats()
    await one.take()
    await one._session().execute("SELECT pg_advisory_unlock_all()")
    with pytest.raises(UnavailableError, match="pooler"):
        await one.keep()


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    seat = PostgresSeat("host=127.0.0.1 port=1 user=nobody", "c", 5.0)
    with pytest.raises(UnavailableError, match="PostgreSQL: "):
        await seat.take()
    await seat.leave()
