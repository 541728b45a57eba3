"""The coordinator over real gRPC on loopback, with scripted nodes."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from argus.config import Config, CoordinatorConfig
from argus.coordinator.service import ADMIN_SERVICE, IMAGE_SERVICE, load_profile, serve
from argus.errors import (
    AlreadyExistsError,
    ConfigError,
    DeadlineError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    OverloadedError,
    UnavailableError,
)
from argus.rpc.channel import open_channel
from argus.rpc.convert_cluster import node_info_to_proto
from argus.rpc.status import from_rpc_error
from argus.v1 import admin_pb2, cluster_pb2, image_pb2
from argus.v1.cluster_pb2_grpc import ClusterServiceStub
from argus.v1.image_pb2_grpc import ImageServiceStub
from tests.unit.coordinator.bench import BASE, info, kinds
from tests.unit.coordinator.scripted import EOF, Coordinated, ScriptedNode, coordinated, picture


@pytest.fixture(autouse=True)
async def nothing_is_left_running() -> Any:
    before = asyncio.all_tasks()
    yield
    await eventually(lambda: asyncio.all_tasks() <= before | {asyncio.current_task()})


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait for what another task will bring about."""
    for _ in range(500):
        if holds():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it never came about")


async def eventually_status(cluster: Coordinated, holds: Callable[[Any], bool]) -> Any:
    for _ in range(250):
        if holds(status := await cluster.status()):
            return status
        await asyncio.sleep(0.02)
    return pytest.fail("the status never became as expected")


async def health(cluster: Coordinated, service: str) -> Any:
    stub = health_pb2_grpc.HealthStub(cluster.channel)
    return (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status


SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def test_an_image_comes_back_with_its_story() -> None:
    async with coordinated() as cluster, ScriptedNode().joined(cluster.address) as node:
        assert node.welcome.lease_s == 2.0
        events = await cluster.generate(steps=3)
        assert kinds(events) == ["queued", "started", "step", "step", "step", "image"]
        assert events[-1].image.data == picture(7, 3)
        assert {event.request_id for event in events} == {"r"}
        status = await cluster.status()
        assert (status.in_flight, status.counters.answered, status.nodes[0].assigned) == (0, 1, 0)
        assert [(x.name, x.answered) for x in status.levels] == [("base-reference", 1)]


async def test_variants_are_listed_with_their_levels_and_nodes() -> None:
    async with coordinated() as cluster:
        request = image_pb2.ListVariantsRequest()
        assert not (await cluster.images.ListVariants(request)).variants
        async with ScriptedNode("a").joined(cluster.address):
            (variant,) = (await cluster.images.ListVariants(request)).variants
            assert (variant.name, variant.max_size) == (BASE.name, BASE.max_size)
            assert list(variant.levels) == ["base-reference"]
            assert list(variant.nodes) == ["a"]


async def test_a_node_cut_in_the_middle_of_a_row_costs_a_warning_but_no_image() -> None:
    async with coordinated() as cluster:
        dying = ScriptedNode("a", hold_at=3)
        async with dying.joined(cluster.address):
            waiting = asyncio.create_task(cluster.generate())
            await dying.reached_hold.wait()
            async with ScriptedNode("b").joined(cluster.address) as second:
                dying.cut()
                events = await waiting
        assert kinds(events).count("image") == 1
        assert [e.warning.code for e in events if e.HasField("warning")] == ["NODE_LOST"]
        assert events[-1].image.data == picture(7, 10)
        assert (events[-1].image.node, events[-1].image.attempts) == ("b", 2)
        assert second.works[0].attempt == 2
        assert (await cluster.status()).counters.replayed == 1


async def test_a_node_that_stops_beating_is_given_up_and_told_so() -> None:
    async with coordinated(lease_s=0.3, heartbeat_interval_s=0.1) as cluster:
        silent = ScriptedNode("a", hold_at=1, beats=False)
        async with silent.joined(cluster.address):
            waiting = asyncio.create_task(cluster.generate())
            await silent.reached_hold.wait()
            async with ScriptedNode("b").joined(cluster.address):
                assert (await waiting)[-1].image.node == "b"
            assert await silent.call.code() is grpc.StatusCode.UNAVAILABLE
            assert "no heartbeat" in await silent.call.details()


async def test_a_node_whose_device_is_dead_is_given_up_though_it_beats() -> None:
    async with coordinated(lease_s=0.3, heartbeat_interval_s=0.1) as cluster:
        stuck = ScriptedNode("a", hold_at=1, device_idle_s=60.0)
        async with stuck.joined(cluster.address):
            waiting = asyncio.create_task(cluster.generate())
            await stuck.reached_hold.wait()
            async with ScriptedNode("b").joined(cluster.address):
                assert (await waiting)[-1].image.node == "b"
            assert "device did nothing" in await stuck.call.details()


async def test_two_calls_with_one_id_share_one_row() -> None:
    async with (
        coordinated() as cluster,
        ScriptedNode(step_s=0.02).joined(cluster.address) as node,
    ):
        first = asyncio.create_task(cluster.generate())
        await node.got_work.wait()
        second = await cluster.generate()
        third = await cluster.generate()
        assert (await first)[-1] == second[-1] == third[-1]
        assert len(node.works) == 1
        with pytest.raises(InvalidArgumentError, match="request_id"):
            await cluster.generate(seed=8)


async def test_a_client_that_hangs_up_frees_the_row() -> None:
    async with coordinated() as cluster, ScriptedNode(hold_at=2).joined(cluster.address) as node:
        request = image_pb2.GenerateRequest(request_id="r", prompt="a red circle")
        call = cluster.images.Generate(request)
        await node.reached_hold.wait()
        call.cancel()
        await node.got_cancel.wait()
        assert (node.cancels[0].request_id, node.cancels[0].attempt) == ("r", 1)
        status = await eventually_status(cluster, lambda s: s.in_flight == 0)
        assert (status.counters.cancelled, status.nodes[0].assigned) == (1, 0)


async def test_a_full_coordinator_says_when_to_come_back() -> None:
    async with (
        coordinated(max_in_flight=2) as cluster,
        ScriptedNode(hold_at=1).joined(cluster.address) as node,
    ):
        held = [asyncio.create_task(cluster.generate(f"r{i}")) for i in range(2)]
        await eventually(lambda: len(node.works) == 2)
        with pytest.raises(OverloadedError) as caught:
            await cluster.generate("one-too-many")
        assert caught.value.retry_after_s > 0
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)


async def test_a_late_image_is_an_error_and_its_row_is_freed() -> None:
    async with coordinated() as cluster, ScriptedNode(hold_at=5).joined(cluster.address) as node:
        with pytest.raises(DeadlineError, match="not ready within 1.2 s"):
            await cluster.generate(deadline_s=1.2)
        await node.got_cancel.wait()
        with pytest.raises(DeadlineError, match="idle cluster"):
            await cluster.generate("hopeless", deadline_s=0.01)


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"prompt": " "}, InvalidArgumentError, "prompt"),
        ({"width": 12}, InvalidArgumentError, "width: .*multiples of 8"),
        ({"sampler": "x"}, InvalidArgumentError, "sampler: .*ddim, euler"),
        ({"variant": "bose"}, NotFoundError, "did you mean 'base'"),
        ({"level": "x"}, NotFoundError, "base-reference"),
    ],
)
async def test_bad_requests_are_refused_with_the_field(
    fields: dict[str, Any], error: type[Exception], words: str
) -> None:
    async with coordinated() as cluster, ScriptedNode().joined(cluster.address):
        with pytest.raises(error, match=words):
            await cluster.generate("bad", **fields)


async def test_no_node_is_unavailable() -> None:
    async with coordinated() as cluster:
        with pytest.raises(UnavailableError, match="no node"):
            await cluster.generate()


async def join_with(address: str, *messages: cluster_pb2.JoinRequest) -> None:
    """Open a stream, say `messages`, and raise how it ends."""
    async with open_channel(address) as channel:
        call = ClusterServiceStub(channel).Join()
        try:
            for message in messages:
                await call.write(message)
            async for _ in call:
                pass
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error


def hello(**changes: Any) -> cluster_pb2.JoinRequest:
    message = node_info_to_proto(info("n1"))
    message.MergeFrom(cluster_pb2.NodeHello(**changes))
    return cluster_pb2.JoinRequest(hello=message)


async def test_hellos_that_cannot_be_accepted_are_refused() -> None:
    async with coordinated(lease_s=0.2, heartbeat_interval_s=0.1) as cluster:
        address = cluster.address
        with pytest.raises(InvalidArgumentError, match="node"):
            await join_with(address, hello(node="not a name"))
        with pytest.raises(FailedPreconditionError, match="protocol version"):
            await join_with(address, hello(protocol_version=99))
        with pytest.raises(InvalidArgumentError, match="hello"):
            await join_with(address, cluster_pb2.JoinRequest(draining=cluster_pb2.Draining()))
        with pytest.raises(InvalidArgumentError, match="hello is out of place"):
            await join_with(address, hello(), hello())
        with pytest.raises(DeadlineError, match="no hello"):
            await join_with(address)
        async with ScriptedNode("n1").joined(address):
            with pytest.raises(AlreadyExistsError, match="n1"):
                await join_with(address, hello())


async def test_a_drained_node_finishes_its_row_and_leaves() -> None:
    async with (
        coordinated() as cluster,
        ScriptedNode("a", step_s=0.02).joined(cluster.address) as a,
    ):
        waiting = asyncio.create_task(cluster.generate())
        await a.got_work.wait()
        await cluster.admin.DrainNode(admin_pb2.DrainNodeRequest(node="a"))
        with pytest.raises(UnavailableError):
            await cluster.generate("new")
        events = await waiting
        assert kinds(events)[-1] == "image"
        assert "warning" not in kinds(events)
        assert a.drained
        await eventually_status(cluster, lambda s: not s.nodes)
        with pytest.raises(NotFoundError, match="node") as caught:
            await drain(cluster, "b")
        assert caught.value.name == "b"


async def drain(cluster: Coordinated, name: str) -> None:
    try:
        await cluster.admin.DrainNode(admin_pb2.DrainNodeRequest(node=name))
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error


async def test_health_says_whether_images_can_be_served() -> None:
    async with coordinated() as cluster:
        assert await health(cluster, IMAGE_SERVICE) == NOT_SERVING
        assert await health(cluster, ADMIN_SERVICE) == SERVING
        async with ScriptedNode().joined(cluster.address):
            await eventually_health(cluster, SERVING)
        await eventually_health(cluster, NOT_SERVING)


async def eventually_health(cluster: Coordinated, wanted: Any) -> None:
    for _ in range(500):
        if await health(cluster, IMAGE_SERVICE) == wanted:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"health never became {wanted}")


async def test_stopping_finishes_what_is_in_flight_and_refuses_the_rest() -> None:
    async with (
        coordinated(drain_grace_s=5.0) as cluster,
        ScriptedNode(step_s=0.05).joined(cluster.address) as node,
    ):
        waiting = asyncio.create_task(cluster.generate())
        await node.got_work.wait()
        stopping = asyncio.create_task(cluster.coordinator.stop())
        await eventually_health(cluster, NOT_SERVING)
        with pytest.raises(UnavailableError, match="stopping"):
            await cluster.generate("new")
        assert kinds(await waiting)[-1] == "image"
        await stopping


async def test_stopping_does_not_wait_longer_than_its_grace() -> None:
    async with (
        coordinated(drain_grace_s=0.1) as cluster,
        ScriptedNode(hold_at=1).joined(cluster.address) as node,
    ):
        waiting = asyncio.create_task(cluster.generate())
        await node.reached_hold.wait()
        await asyncio.wait_for(cluster.coordinator.stop(), 3.0)
        with pytest.raises(UnavailableError, match="stopping"):
            await waiting


async def test_serve_says_where_it_listens_and_ends_when_told() -> None:
    stop, addresses = asyncio.Event(), []
    config = Config(coordinator=CoordinatorConfig(bind="127.0.0.1:0"))
    serving = asyncio.create_task(serve(config, stop, addresses.append))
    await eventually(lambda: bool(addresses))
    taken = Config(coordinator=CoordinatorConfig(bind=addresses[0]))
    with pytest.raises(ConfigError, match=r"coordinator\.bind"):
        await serve(taken, stop, addresses.append)
    stop.set()
    await asyncio.wait_for(serving, 5.0)
    assert len(addresses) == 1


def test_a_level_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "none.json"
    with pytest.raises(ConfigError, match=r"coordinator\.levels: cannot read .*none\.json"):
        load_profile(CoordinatorConfig(levels=str(missing)))
    missing.write_text("{}")
    with pytest.raises(ConfigError, match=r"none\.json: reference: missing"):
        load_profile(CoordinatorConfig(levels=str(missing)))


async def test_a_thousand_random_cancels_leave_nothing_behind() -> None:
    rng = random.Random(3)
    async with (
        coordinated() as cluster,
        ScriptedNode("a", step_s=0.002).joined(cluster.address) as a,
        ScriptedNode("b", step_s=0.002).joined(cluster.address) as b,
    ):
        room = asyncio.Semaphore(64)
        images = 0
        before = len(asyncio.all_tasks())

        async def one(i: int) -> None:
            nonlocal images
            async with room:
                request = image_pb2.GenerateRequest(request_id=f"r{i}", prompt="p", seed=i)
                call = ImageServiceStub(cluster.channel).Generate(request)
                assert (await call.read()).HasField("queued")
                limit_s = rng.choice([0.0, 0.01, 0.05, 0.1, 0.2])
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(limit_s):
                        while (event := await call.read()) is not EOF:
                            images += event.HasField("image")
                call.cancel()

        work: list[Awaitable[None]] = [one(i) for i in range(1000)]
        await asyncio.gather(*work)
        status = await eventually_status(cluster, lambda s: s.in_flight == 0)
        await eventually(lambda: not a.rows and not b.rows)
        c = status.counters
        assert c.accepted == c.answered + c.cancelled + c.failed
        assert (c.failed, c.refused, status.queued) == (0, 0, 0)
        assert c.accepted == 1000
        assert c.cancelled > 100
        assert c.answered >= images
        assert [node.assigned for node in status.nodes] == [0, 0]
        await eventually(lambda: len(asyncio.all_tasks()) <= before)
