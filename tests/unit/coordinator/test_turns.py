"""Two coordinators in this process that take turns, over real gRPC on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from argus.client import AsyncClient, Retries
from argus.clock import Clock, MonotonicClock
from argus.config import Config, CoordinatorConfig, StandbyConfig, load_config
from argus.coordinator.leadership import Leadership
from argus.coordinator.service import CLUSTER_SERVICE, Coordinator
from argus.coordinator.serving import serve
from argus.coordinator.turns import take_turns
from argus.errors import ConfigError, UnavailableError
from argus.rpc.channel import open_channel
from argus.rpc.convert_cluster import node_info_to_proto
from argus.types import ImageRequest
from argus.v1 import cluster_pb2
from argus.v1.cluster_pb2_grpc import ClusterServiceStub
from tests.unit.coordinator.bench import Bench, info, one_work
from tests.unit.coordinator.polling import NOT_SERVING, SERVING, eventually
from tests.unit.coordinator.scripted import ScriptedNode, picture
from tests.unit.coordinator.seats import LEASE_S, Room, ScriptedSeat

QUICK = Retries(attempts=50, first_wait_s=0.01, longest_wait_s=0.02)
ONCE = Retries(attempts=1)


@dataclass
class Turner:
    """One of the processes, and what it is on the outside."""

    seat: ScriptedSeat
    leadership: Leadership
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    address: str = ""
    made: list[Coordinator] = field(default_factory=list)

    async def health(self, service: str = "") -> Any:
        async with open_channel(self.address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            return (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status


class JumpingClock(MonotonicClock):
    """Goes on as if the process had been stopped for a while."""

    def __init__(self) -> None:
        self.stopped_s = 0.0

    def now(self) -> float:
        return super().now() + self.stopped_s


@asynccontextmanager
async def turning(
    room: Room, clock: Clock | None = None, drain_grace_s: float = 0.2
) -> AsyncIterator[Turner]:
    clock = clock or MonotonicClock()
    seat = ScriptedSeat(room)
    one = Turner(seat, Leadership(clock, seat, LEASE_S))

    def make() -> Coordinator:
        config = CoordinatorConfig(bind="127.0.0.1:0", metrics="off", drain_grace_s=drain_grace_s)
        one.made.append(Coordinator(config, clock, leadership=one.leadership))
        return one.made[-1]

    def ready(address: str) -> None:
        one.address = address

    task = asyncio.create_task(take_turns(make, one.leadership, one.stop, ready))
    try:
        await eventually(lambda: bool(one.address))
        yield one
    finally:
        seat.lets_go.set()
        one.stop.set()
        await asyncio.wait_for(task, 20)


async def test_a_stand_by_refuses_in_words_and_serves_when_the_leader_is_gone() -> None:
    room = Room(MonotonicClock())
    async with turning(room) as first, turning(room) as second:
        await eventually(lambda: first.leadership.holds or second.leadership.holds)
        leader, other = (first, second) if first.leadership.holds else (second, first)
        assert (await leader.health(), await other.health()) == (SERVING, NOT_SERVING)
        assert await other.health(CLUSTER_SERVICE) == NOT_SERVING
        async with AsyncClient(other.address, retries=ONCE) as client:
            with pytest.raises(UnavailableError, match="stands by; ask the one that leads"):
                await client.status()
            with pytest.raises(UnavailableError, match="stands by"):
                await client.generate("a red circle")
        both = f"{other.address},{leader.address}"
        async with AsyncClient(both, retries=QUICK) as client:
            async with ScriptedNode("a").joined(leader.address):
                result = await client.generate("a red circle", seed=7)
                assert result.data == picture(7, 10)
            assert (await client.status()).leadership.epoch == 1
            leader.stop.set()
            await eventually(lambda: other.leadership.holds)
            async with ScriptedNode("a").joined(other.address) as node:
                assert node.welcome.epoch == 2
                await client.generate("a red circle", seed=8)
            status = await client.status()
        assert (status.leadership.epoch, status.counters.answered) == (2, 1)
        assert await other.health() == SERVING


async def test_a_leader_that_loses_its_seat_lets_go_of_everything_and_stands_by_again() -> None:
    room = Room(MonotonicClock())
    async with turning(room) as one:
        await eventually(lambda: one.leadership.holds)
        async with (
            ScriptedNode("a", hold_at=3).joined(one.address) as node,
            AsyncClient(one.address, retries=ONCE) as client,
        ):
            waiting = asyncio.create_task(client.generate("a red circle", seed=7))
            await node.reached_hold.wait()
            one.seat.cut = True
            with pytest.raises(UnavailableError, match="leads no more.*is safe"):
                await waiting
            assert "leads no more" in await node.call.details()
            # The row goes on: another coordinator will ask for it.
            assert node.cancels == []
        await eventually(lambda: len(one.made) == 2)
        assert await one.health() == NOT_SERVING
        one.seat.cut = False
        await eventually(lambda: one.leadership.holds)
        assert one.leadership.epoch == 2
        assert await one.health() == SERVING


async def test_a_leader_that_loses_its_seat_while_it_finishes_hands_over_at_once() -> None:
    room = Room(MonotonicClock())
    async with turning(room, drain_grace_s=60.0) as one:
        one.seat.waiting = 0
        await eventually(lambda: one.leadership.holds and one.leadership.waiting == 0)
        async with (
            ScriptedNode("a", hold_at=3).joined(one.address) as node,
            AsyncClient(one.address, retries=ONCE) as client,
        ):
            waiting = asyncio.create_task(client.generate("a red circle", seed=7))
            await node.reached_hold.wait()
            one.stop.set()
            await eventually(lambda: one.made[0]._draining)
            assert not waiting.done()
            one.seat.cut = True
            with pytest.raises(UnavailableError, match="leads no more"):
                await asyncio.wait_for(waiting, 10)
            assert "leads no more" in await node.call.details()
            assert node.cancels == []
            assert node.last_word != "settled"


async def test_a_leader_that_wakes_serves_nothing_before_it_has_stepped_down() -> None:
    clock = JumpingClock()
    room = Room(clock)
    async with turning(room, clock) as one:
        await eventually(lambda: one.leadership.holds)
        node = ScriptedNode("a", slots=1)
        async with node.joined(one.address), open_channel(one.address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            asked = health_pb2.HealthCheckRequest()
            assert (await stub.Check(asked)).status == SERVING
            one.seat.lets_go.clear()
            clock.stopped_s = LEASE_S
            # Nothing has run in between: it does not know yet that it was stopped.
            assert one.leadership.epoch == 1
            assert (await stub.Check(asked)).status == NOT_SERVING
            with pytest.raises(UnavailableError, match="leads no more"):
                one.made[0]._dispatcher.submit(ImageRequest(request_id="r", prompt="a circle"))
            async with AsyncClient(one.address, retries=ONCE) as client:
                with pytest.raises(UnavailableError):
                    await client.generate("a red circle")
            await eventually(lambda: one.leadership.lost.is_set())
            assert (await stub.Check(asked)).status == NOT_SERVING
            assert node.works == []


async def test_a_node_that_says_hello_while_the_lead_is_lost_leaves_no_row_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    given_by = bench.join("a")
    bench.submit(seed=7)
    row = cluster_pb2.HeldRow(work=await one_work(given_by), run="another")
    hello = node_info_to_proto(info("a"))
    hello.held.append(row)
    async with turning(Room(MonotonicClock())) as one:
        await eventually(lambda: one.leadership.holds)
        coordinator, let_in = one.made[0], asyncio.Event()
        welcome = coordinator._cluster._welcome

        async def noted(*arguments: Any) -> Any:
            let_in.set()
            return await welcome(*arguments)

        monkeypatch.setattr(coordinator._cluster, "_welcome", noted)
        async with open_channel(one.address) as channel:
            call = ClusterServiceStub(channel).Join()
            await asyncio.wait_for(let_in.wait(), 10)
            one.seat.lets_go.clear()
            one.seat.cut = True
            await eventually(lambda: one.leadership.lost.is_set())
            await call.write(cluster_pb2.JoinRequest(hello=hello))
            with pytest.raises(grpc.aio.AioRpcError, match="stands by"):
                await call.read()
            assert not coordinator._dispatcher.flights
            assert not coordinator._membership.members


async def test_what_was_learned_goes_to_the_next_leader() -> None:
    room = Room(MonotonicClock())
    async with turning(room) as one:
        await eventually(lambda: one.leadership.holds)
        async with ScriptedNode("a").joined(one.address), turning(room) as other:
            await eventually(lambda: one.leadership.waiting == 1)
            one.stop.set()
            await eventually(lambda: other.leadership.holds)
            assert '"nodes": ["a"]' in room.state
            # What is new waits for the node that may have it already.
            async with AsyncClient(other.address, retries=ONCE) as client:
                asking = asyncio.create_task(client.generate("a red circle", seed=7))
                await asyncio.sleep(0.1)
                assert not asking.done()
                async with ScriptedNode("a").joined(other.address):
                    assert (await asking).data == picture(7, 10)


async def figures(coordinator: Coordinator) -> dict[str, float]:
    families = [family async for family in coordinator.metrics.families()]
    return {f.name: f.samples[0].value for f in families if "_coordinator_" in f.name}


async def test_metrics_say_who_leads_and_who_could() -> None:
    nobody = dict.fromkeys(("leader", "epoch", "waiting"), 0.0)
    room = Room(MonotonicClock())
    async with turning(room) as one:
        await eventually(lambda: one.leadership.waiting == 1)
        leading = {"leader": 1.0, "epoch": 1.0, "waiting": 1.0}
        async with turning(room) as other:
            for turner, values in ((one, leading), (other, nobody)):
                wanted = {f"argus_coordinator_{name}": value for name, value in values.items()}
                assert await figures(turner.made[-1]) == wanted
    alone = Coordinator(CoordinatorConfig(), MonotonicClock())
    assert await figures(alone) == {}


@dataclass
class Noted:
    """A coordinator that notes what it is told to do."""

    told: list[str]

    async def start(self, bind: str) -> str:
        self.told.append(f"start {bind}")
        return "127.0.0.1:7"

    async def lead(self, state: str, age_s: float, save: object) -> None:
        self.told.append(f"lead {state}")

    async def stop(self) -> None:
        self.told.append("stop")

    async def hand_over(self, why: str) -> None:
        self.told.append("hand over")

    def shown(self) -> Any:
        return nullcontext()


async def noted_turn(waiting: int) -> list[str]:
    """Return what a coordinator is told that leads, and is stopped."""
    room, stop, told = Room(MonotonicClock()), asyncio.Event(), []
    room.state = "before"
    seat = ScriptedSeat(room)
    seat.waiting = waiting
    leadership = Leadership(MonotonicClock(), seat, LEASE_S)
    make: Callable[[], Noted] = lambda: Noted(told)  # noqa: E731
    task = asyncio.create_task(take_turns(make, leadership, stop, told.append))
    await eventually(lambda: seat.kept > 0)
    stop.set()
    await asyncio.wait_for(task, 20)
    assert room.holder is None
    return told


async def test_what_is_in_flight_is_handed_over_if_another_waits_and_finished_if_not() -> None:
    begun = ["start ", "127.0.0.1:7", "lead before"]
    assert await noted_turn(waiting=1) == [*begun, "hand over"]
    assert await noted_turn(waiting=0) == [*begun, "stop"]


async def test_a_stand_by_needs_a_database_that_is_named() -> None:
    stop = asyncio.Event()
    stop.set()
    config = Config(
        coordinator=CoordinatorConfig(bind="127.0.0.1:0", metrics="off", standby=True),
        standby=StandbyConfig(postgres="host=127.0.0.1 port=1"),
    )
    addresses: list[str] = []
    await serve(config, stop, addresses.append)
    with pytest.raises(ConfigError, match=r"standby\.postgres"):
        load_config(None, {}, {"coordinator.standby": True})
