"""Nodes that come, fail and leave, over real gRPC on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable
from typing import Any

import grpc
import pytest

from argus.coordinator.service import IMAGE_SERVICE
from argus.errors import (
    AlreadyExistsError,
    DeadlineError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
)
from argus.rpc.bundles import unbundle
from argus.rpc.channel import open_channel
from argus.rpc.convert_cluster import node_info_to_proto
from argus.rpc.status import from_rpc_error
from argus.types import StepCosts, VariantCosts
from argus.v1 import admin_pb2, cluster_pb2, image_pb2
from argus.v1.cluster_pb2_grpc import ClusterServiceStub
from argus.v1.image_pb2_grpc import ImageServiceStub
from tests.unit.coordinator.bench import info, kinds
from tests.unit.coordinator.polling import (
    NOT_SERVING,
    SERVING,
    eventually,
    eventually_health,
    eventually_status,
)
from tests.unit.coordinator.scripted import EOF, Coordinated, ScriptedNode, coordinated, picture
from tests.unit.rpc.stalled import stalled_watch


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


async def test_a_node_that_drains_is_not_held_up_by_who_watches_health_and_takes_nothing() -> None:
    async with coordinated() as cluster, ScriptedNode("a").joined(cluster.address) as leaving:
        await eventually_health(cluster, SERVING)
        async with stalled_watch(cluster.address, IMAGE_SERVICE), asyncio.timeout(5):
            leaving.write(draining=cluster_pb2.Draining())
            await eventually_health(cluster, NOT_SERVING)
            async with ScriptedNode("b").joined(cluster.address):
                await eventually_health(cluster, SERVING)
                assert (await cluster.generate())[-1].image.node == "b"


async def test_a_policy_that_fails_ends_no_nodes_stream(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with coordinated() as cluster, ScriptedNode("a").joined(cluster.address) as old:
        policy = cluster.coordinator._dispatcher.policy

        def broken(*_: object) -> None:
            raise RuntimeError("a bug")

        with monkeypatch.context() as patch:
            patch.setattr(policy, "dispatch", broken)
            async with ScriptedNode("b").joined(cluster.address) as new:
                members = cluster.coordinator._membership.members
                joined_s = [member.heard_at_s for member in members]
                await eventually(
                    lambda: all(m.heard_at_s > s for m, s in zip(members, joined_s, strict=True))
                )
                await asyncio.sleep(0.1)
                assert not old.call.done()
                assert not new.call.done()
        assert "giving out work failed" in caplog.text
        assert kinds(await cluster.generate())[-1] == "image"


async def test_bundles_tell_the_same_story_in_fewer_messages() -> None:
    """Half of the clients read bundles; the node says all of a row at once."""
    async with coordinated() as cluster:
        async with ScriptedNode("a", slots=8, bundles=True).joined(cluster.address) as node:
            assert node.welcome.reads_bundles
            asked = [
                cluster.generate(f"r{n}", seed=n, reads_bundles=n % 2 == 0, steps=3)
                for n in range(8)
            ]
            heard = await asyncio.gather(*asked)
        for number, messages in enumerate(heard):
            events = [each for message in messages for each in unbundle(message)]
            assert kinds(events) == ["queued", "started", "step", "step", "step", "image"]
            assert events[-1].image.data == picture(number, 3)
            assert len(messages) <= 2 if number % 2 == 0 else len(messages) == len(events)
        assert (await cluster.status()).counters.answered == 8


async def test_a_bundle_in_a_bundle_is_refused() -> None:
    async with coordinated() as cluster, ScriptedNode("a").joined(cluster.address) as node:
        inner = cluster_pb2.JoinRequest(more=[cluster_pb2.JoinRequest()])
        node.write(more=[inner])
        assert await node.call.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "unknown is out of place" in await node.call.details()


async def test_a_node_that_stops_beating_is_given_up_and_told_so() -> None:
    async with coordinated(lease_s=0.3, heartbeat_interval_s=0.1) as cluster:
        silent = ScriptedNode("a", hold_at=1, beats=False)
        async with silent.joined(cluster.address):
            waiting = asyncio.create_task(cluster.generate())
            await silent.reached_hold.wait()
            async with ScriptedNode("b").joined(cluster.address):
                assert (await waiting)[-1].image.node == "b"
            assert await silent.call.code() is grpc.StatusCode.UNAVAILABLE
            assert "nothing was heard" in await silent.call.details()


async def test_a_node_that_sends_images_but_no_heartbeats_yet_is_alive() -> None:
    """What it says of its row takes thrice the lease."""
    async with coordinated(lease_s=0.4, heartbeat_interval_s=0.1) as cluster:
        busy = ScriptedNode("a", step_s=0.12, beats=False)
        async with busy.joined(cluster.address):
            events = await cluster.generate(steps=10)
        assert "warning" not in kinds(events)
        assert (events[-1].image.node, events[-1].image.attempts) == ("a", 1)


async def test_a_node_whose_device_is_dead_is_given_up_though_it_beats() -> None:
    async with coordinated(lease_s=1.0, heartbeat_interval_s=0.1) as cluster:
        quick = VariantCosts(StepCosts((2,), (0.001,)), text_encode_s=0.001, decode_s=0.001)
        stuck = ScriptedNode("a", hold_at=1, device_idle_s=60.0, costs=quick)
        async with stuck.joined(cluster.address):
            waiting = asyncio.create_task(cluster.generate())
            await stuck.reached_hold.wait()
            async with ScriptedNode("b").joined(cluster.address):
                assert (await waiting)[-1].image.node == "b"
            assert "device did nothing" in await stuck.call.details()


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


async def drain(cluster: Coordinated, name: str) -> None:
    try:
        await cluster.admin.DrainNode(admin_pb2.DrainNodeRequest(node=name))
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error


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
