"""The coordinator over real gRPC on loopback, with scripted nodes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from argus.config import Config, CoordinatorConfig
from argus.coordinator.named import load_profile
from argus.coordinator.service import ADMIN_SERVICE, IMAGE_SERVICE
from argus.coordinator.serving import serve
from argus.errors import (
    ConfigError,
    DeadlineError,
    InvalidArgumentError,
    NotFoundError,
    OverloadedError,
    UnavailableError,
)
from argus.v1 import image_pb2
from tests.unit.coordinator.bench import BASE, kinds
from tests.unit.coordinator.polling import (
    NOT_SERVING,
    SERVING,
    eventually,
    eventually_health,
    eventually_status,
    health,
)
from tests.unit.coordinator.scripted import ScriptedNode, coordinated, picture


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


async def test_health_says_whether_images_can_be_served() -> None:
    async with coordinated() as cluster:
        assert await health(cluster, IMAGE_SERVICE) == NOT_SERVING
        assert await health(cluster, ADMIN_SERVICE) == SERVING
        async with ScriptedNode().joined(cluster.address):
            await eventually_health(cluster, SERVING)
        await eventually_health(cluster, NOT_SERVING)


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
        await eventually(lambda: node.call.done())
        assert node.last_word == "settled"


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
        await eventually(lambda: node.call.done())
        assert node.last_word != "settled"


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
