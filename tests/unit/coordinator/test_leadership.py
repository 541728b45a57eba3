"""Who leads, and until when: on a manual clock, with a seat that does what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from argus.clock import ManualClock
from argus.coordinator.leadership import TRUST, Leadership, Taken
from argus.errors import UnavailableError
from tests.unit.coordinator.polling import eventually
from tests.unit.coordinator.seats import LEASE_S, Room, ScriptedSeat


class Two:
    """Two coordinators that contend for one seat."""

    def __init__(self) -> None:
        self.clock = ManualClock(100.0)
        self.room = Room(self.clock)
        self.seats = [ScriptedSeat(self.room) for _ in range(2)]
        self.one, self.other = (Leadership(self.clock, seat, LEASE_S) for seat in self.seats)

    def assert_at_most_one(self) -> None:
        assert [self.one.holds, self.other.holds].count(True) <= 1

    async def try_once(self, leadership: Leadership) -> Taken | None:
        """Return what one look at the seat gives."""
        stop = asyncio.Event()
        campaign = asyncio.create_task(leadership.campaign(stop))
        await asyncio.sleep(0)
        stop.set()
        return await campaign


@pytest.fixture
async def two() -> AsyncIterator[Two]:
    two = Two()
    yield two
    for seat in two.seats:
        seat.lets_go.set()
    await two.one.resign()
    await two.other.resign()


async def test_one_leads_and_the_other_stands_by_until_it_resigns(two: Two) -> None:
    taken = await two.one.campaign(asyncio.Event())
    assert taken is not None
    assert (taken.epoch, taken.state) == (1, "")
    two.one.check()
    with pytest.raises(UnavailableError, match="stands by"):
        two.other.check()
    assert await two.try_once(two.other) is None
    await two.one.save("what was learned")
    await two.one.resign()
    with pytest.raises(UnavailableError, match="stands by"):
        two.one.check()
    taken = await two.other.campaign(asyncio.Event())
    assert taken is not None
    assert (taken.epoch, taken.state) == (2, "what was learned")


async def test_a_leader_that_cannot_ask_stops_before_another_can_begin(two: Two) -> None:
    await two.one.campaign(asyncio.Event())
    await two.one.beat()
    two.seats[0].cut = True
    steps = 0
    while not two.other.holds:
        two.clock.advance(LEASE_S / 50)
        steps += 1
        await two.try_once(two.other)
        two.assert_at_most_one()
        assert steps < 100
    assert not two.one.holds
    assert two.other.epoch == 2


async def test_a_leader_that_wakes_from_a_pause_does_not_lead(two: Two) -> None:
    await two.one.campaign(asyncio.Event())
    two.clock.advance(LEASE_S + 0.1)
    assert not two.one.holds
    assert await two.try_once(two.other) is not None
    with pytest.raises(UnavailableError):
        await two.one.beat()
    assert two.other.holds


async def test_an_answer_that_comes_too_late_does_not_make_it_lead_again(two: Two) -> None:
    await two.one.campaign(asyncio.Event())
    two.seats[0].answers.clear()
    asking = asyncio.create_task(two.one.beat())
    await asyncio.sleep(0)
    two.clock.advance(TRUST * LEASE_S)
    assert not two.one.holds
    two.seats[0].answers.set()
    with pytest.raises(UnavailableError, match="in time"):
        await asking


async def test_trust_counts_from_the_question_not_from_the_answer(two: Two) -> None:
    await two.one.campaign(asyncio.Event())
    two.seats[0].answers.clear()
    asking = asyncio.create_task(two.one.beat())
    await asyncio.sleep(0)
    two.clock.advance(0.5)
    two.seats[0].answers.set()
    await asking
    two.clock.advance(TRUST * LEASE_S - 0.5 - 0.01)
    assert two.one.holds
    two.clock.advance(0.02)
    assert not two.one.holds


async def test_losing_the_seat_is_told(two: Two) -> None:
    await two.one.campaign(asyncio.Event())
    await eventually(lambda: two.seats[0].kept > 0)
    assert two.one.waiting == 1
    assert not two.one.lost.is_set()
    two.room.holder = None
    with pytest.raises(UnavailableError):
        await two.one.beat()
    two.seats[0].cut = True
    two.clock.advance(LEASE_S)
    async with asyncio.timeout(10.0):
        await two.one.lost.wait()
    assert two.one.epoch == 0
    two.seats[0].cut = False
    assert await two.try_once(two.one) is not None
    assert not two.one.lost.is_set()


async def test_nobody_leads_while_the_server_is_away(two: Two) -> None:
    two.seats[0].cut = True
    assert await two.try_once(two.one) is None
    two.seats[0].cut = False
    assert await two.try_once(two.one) is not None


async def test_whoever_does_not_lead_leaves_nothing(two: Two) -> None:
    with pytest.raises(UnavailableError, match="stands by"):
        await two.one.save("nothing")
    assert two.room.state == ""


async def test_a_question_that_does_not_end_when_called_off_delays_nobody(two: Two) -> None:
    await two.one.campaign(asyncio.Event())
    await eventually(lambda: two.seats[0].kept > 0)
    seat = two.seats[0]
    seat.answers.clear()
    seat.lets_go.clear()
    two.clock.advance(TRUST * LEASE_S - 0.01)
    async with asyncio.timeout(10.0):
        with pytest.raises(UnavailableError, match="in time"):
            await two.one.beat()
        await two.one.lost.wait()
    resigning = asyncio.create_task(two.one.resign())
    await asyncio.sleep(0)
    assert not two.one.holds
    seat.lets_go.set()
    await asyncio.wait_for(resigning, 10.0)
    assert two.room.holder is None


async def test_a_leadership_ends_in_whatever_way_the_seat_fails(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail() -> int:
        raise RuntimeError("a bug")

    monkeypatch.setattr(two.seats[0], "keep", fail)
    await two.one.campaign(asyncio.Event())
    async with asyncio.timeout(10.0):
        await two.one.lost.wait()
    assert two.one.epoch == 0
