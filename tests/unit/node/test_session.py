"""A real daemon in this process against a scripted coordinator on loopback."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from argus.config import Config
from argus.diffusion.size import folder_weights_bytes
from argus.errors import AlreadyExistsError, InternalError, UnavailableError
from argus.node.daemon import serve
from argus.node.rows import TELL_EVERY_S
from argus.rpc.bundles import unbundle
from argus.v1 import cluster_pb2
from tests.unit.node.scripted import Coordinator, work


async def test_work_comes_in_and_events_go_out(
    coordinator: tuple[Coordinator, str], config: Config
) -> None:
    servicer, _ = coordinator
    stop = asyncio.Event()
    daemon = asyncio.create_task(serve(config, stop))
    await servicer.until("heartbeat")
    await servicer.send(work=work("r1"))
    kinds = [m.event.WhichOneof("event") for m in await servicer.until("done")]
    assert [k for k in kinds if k not in {None, "step"}] == ["started", "done"]

    await servicer.send(work=work("bad", sampler="magic"))
    failed = (await servicer.until("failed"))[-1].event
    assert failed.failed.reason == cluster_pb2.WORK_FAILURE_INVALID
    assert "sampler" in failed.failed.message

    await servicer.send(work=work("long", steps=900))
    await servicer.until("started")
    await servicer.send(cancel=cluster_pb2.CancelWork(request_id="long", attempt=1))
    failed = (await servicer.until("failed"))[-1].event
    assert failed.failed.reason == cluster_pb2.WORK_FAILURE_CANCELLED
    stop.set()
    await servicer.until("draining")
    await asyncio.wait_for(daemon, 30)


async def test_bundles_are_read_and_sent_and_each_end_in_one_counts_as_sent(
    coordinator: tuple[Coordinator, str], config: Config
) -> None:
    servicer, _ = coordinator
    servicer.welcome = {"reads_bundles": True, "takes_rows": True}
    stop = asyncio.Event()
    daemon = asyncio.create_task(serve(config, stop))
    await servicer.until("heartbeat")
    rows = [cluster_pb2.JoinResponse(work=work(f"r{n}", steps=3)) for n in range(4)]
    gone = cluster_pb2.CancelWork(request_id="never given", attempt=1)
    await servicer.send(more=[*rows, cluster_pb2.JoinResponse(cancel=gone)])
    assert servicer.hellos[0].reads_bundles
    done: set[str] = set()
    while len(done) < 4:
        message = await asyncio.wait_for(servicer.heard.get(), 30)
        assert not any(each.HasField("heartbeat") for each in message.more)
        for each in unbundle(message):
            if each.event.HasField("done"):
                done.add(each.event.request_id)
    assert done == {"r0", "r1", "r2", "r3"}
    stop.set()
    await servicer.until("draining")
    await asyncio.wait_for(daemon, 30)


async def test_of_quick_steps_some_are_told_of_and_the_last_one_always(
    coordinator: tuple[Coordinator, str], config: Config
) -> None:
    servicer, _ = coordinator
    stop = asyncio.Event()
    daemon = asyncio.create_task(serve(config, stop))
    await servicer.until("heartbeat")
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    await servicer.send(work=work("r1", steps=60))
    events = [m.event for m in await servicer.until("done")]
    took_s = loop.time() - begun_s
    told = [event.step.step for event in events if event.HasField("step")]
    assert told[-1] == 60
    assert told == sorted(set(told))
    assert 2 <= len(told) <= took_s / TELL_EVERY_S + 2
    stop.set()
    await asyncio.wait_for(daemon, 30)


async def test_variants_are_moved_as_ordered_and_not_under_a_row(
    coordinator: tuple[Coordinator, str], config: Config, tiny_folders: dict[str, Path]
) -> None:
    servicer, _ = coordinator
    folders = (tiny_folders["tiny-eps"], tiny_folders["tiny-v"])
    sizes = {folder.name: folder_weights_bytes(folder, 4) for folder in folders}
    room_for_one = max(sizes.values()) + 4096
    models = tuple(str(folder) for folder in folders)
    crowded = replace(config.node, models=models, weights_bytes=room_for_one)
    stop = asyncio.Event()
    daemon = asyncio.create_task(serve(replace(config, node=crowded), stop))
    beat = (await servicer.until("heartbeat"))[-1].heartbeat
    assert tuple(beat.resident) == ("tiny-eps",)

    async def move(**order: Any) -> cluster_pb2.VariantsMoved:
        await servicer.send(move=cluster_pb2.MoveVariants(**order))
        return (await servicer.until("moved"))[-1].moved

    refused = await move(order=1, load="tiny-v")
    assert (refused.order, tuple(refused.resident)) == (1, ("tiny-eps",))
    assert "more than there is room for" in refused.refusal
    assert "unknown" in (await move(order=2, load="nothing")).refusal

    await servicer.send(work=work("long", steps=900))
    await servicer.until("step")
    in_use = await move(order=3, load="tiny-v", park=["tiny-eps"])
    assert "in use" in in_use.refusal
    await servicer.send(cancel=cluster_pb2.CancelWork(request_id="long", attempt=1))
    await servicer.until("failed")

    moved = await move(order=4, load="tiny-v", park=["tiny-eps"])
    assert (moved.order, moved.refusal, tuple(moved.resident)) == (4, "", ("tiny-v",))
    assert moved.seconds > 0
    await servicer.send(work=work("new", variant="tiny-v"))
    await servicer.until("done")
    stop.set()
    await asyncio.wait_for(daemon, 30)


async def test_a_drained_node_finishes_its_rows_first(
    coordinator: tuple[Coordinator, str], config: Config
) -> None:
    servicer, _ = coordinator
    daemon = asyncio.create_task(serve(config, asyncio.Event()))
    await servicer.until("heartbeat")
    await servicer.send(work=work("r1", steps=60))
    await servicer.until("started")
    await servicer.send(drain=cluster_pb2.Drain())
    heard = await servicer.until("done")
    assert "draining" in [m.WhichOneof("message") for m in heard]
    await asyncio.wait_for(daemon, 30)
    assert servicer.joins == 1


async def test_a_node_rejoins_and_forgets_the_rows_of_the_broken_stream(
    coordinator: tuple[Coordinator, str], config: Config
) -> None:
    servicer, _ = coordinator
    stop = asyncio.Event()
    daemon = asyncio.create_task(serve(config, stop))
    await servicer.until("heartbeat")
    await servicer.send(work=work("lost", steps=900))
    await servicer.until("started")
    servicer.hang_up.set()
    while servicer.joins < 2:
        await servicer.until("heartbeat")
    while (await servicer.until("heartbeat"))[-1].heartbeat.rows:
        pass
    await servicer.send(work=work("next"))
    await servicer.until("done")
    stop.set()
    await asyncio.wait_for(daemon, 30)


async def test_a_strange_row_does_not_take_the_node_down(
    coordinator: tuple[Coordinator, str], config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    from argus.engine.engine import Engine

    servicer, _ = coordinator
    stop = asyncio.Event()
    daemon = asyncio.create_task(serve(config, stop))
    await servicer.until("heartbeat")
    submit = Engine.submit

    def strange(self: Engine, request: Any, listener: Any) -> None:
        if request.request_id == "strange":
            raise ZeroDivisionError("float division by zero")
        submit(self, request, listener)

    monkeypatch.setattr(Engine, "submit", strange)
    await servicer.send(work=work("strange"))
    failed = (await servicer.until("failed"))[-1].event.failed
    assert failed.reason == cluster_pb2.WORK_FAILURE_INTERNAL
    await servicer.send(work=work("plain"))
    await servicer.until("done")
    stop.set()
    await asyncio.wait_for(daemon, 30)


async def test_a_name_still_held_at_rejoining_is_waited_for(
    coordinator: tuple[Coordinator, str], config: Config
) -> None:
    servicer, _ = coordinator
    stop = asyncio.Event()
    daemon = asyncio.create_task(serve(config, stop))
    await servicer.until("heartbeat")
    servicer.refuse_with = grpc.StatusCode.ALREADY_EXISTS
    servicer.hang_up.set()
    await asyncio.wait_for(servicer.third_join.wait(), 30)
    servicer.refuse_with = None
    while not servicer.heard.empty():
        servicer.heard.get_nowait()
    await servicer.until("heartbeat")
    stop.set()
    await asyncio.wait_for(daemon, 30)


async def test_a_draining_node_that_loses_its_stream_leaves(
    coordinator: tuple[Coordinator, str], config: Config
) -> None:
    servicer, _ = coordinator
    daemon = asyncio.create_task(serve(config, asyncio.Event()))
    await servicer.until("heartbeat")
    await servicer.send(work=work("r1", steps=900))
    await servicer.until("started")
    await servicer.send(drain=cluster_pb2.Drain())
    await servicer.until("draining")
    servicer.hang_up.set()
    await asyncio.wait_for(daemon, 30)
    assert servicer.joins == 1


async def test_a_refused_node_says_why(
    coordinator: tuple[Coordinator, str], config: Config
) -> None:
    servicer, _ = coordinator
    servicer.refuse_with = grpc.StatusCode.ALREADY_EXISTS
    with pytest.raises(AlreadyExistsError):
        await serve(config, asyncio.Event())


async def test_a_node_gives_up_on_a_coordinator_that_stays_away(config: Config) -> None:
    away = replace(config, node=replace(config.node, coordinator="127.0.0.1:1", reconnect_s=0.3))
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1 away for 0\.3 s"):
        await serve(away, asyncio.Event())


async def test_a_dead_device_thread_ends_the_daemon(
    coordinator: tuple[Coordinator, str], config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    from argus.engine.stepper import Stepper

    servicer, _ = coordinator
    daemon = asyncio.create_task(serve(config, asyncio.Event()))
    await servicer.until("heartbeat")

    def die(self: Stepper) -> bool:
        raise SystemError("the driver is gone")

    monkeypatch.setattr(Stepper, "_turn", die)
    with pytest.raises(InternalError, match="device thread is dead"):
        await asyncio.wait_for(daemon, 30)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set while the device thread may go on."""
    from argus.engine.stepper import Stepper

    goes_on, turn = threading.Event(), Stepper._turn

    def hanging(self: Stepper) -> None:
        while not (goes_on.is_set() or self._stopping):
            time.sleep(0.02)
        turn(self)

    monkeypatch.setattr(Stepper, "_turn", hanging)
    goes_on.set()
    return goes_on


async def test_a_node_whose_device_hangs_does_not_come_back_before_it_goes_on(
    coordinator: tuple[Coordinator, str],
    config: Config,
    device: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("argus.node.daemon.ALIVE_S", 0.5)
    servicer, _ = coordinator
    stop = asyncio.Event()
    daemon = asyncio.create_task(serve(config, stop))
    await servicer.until("heartbeat")
    device.clear()
    await asyncio.sleep(1.0)
    servicer.hang_up.set()
    await asyncio.sleep(1.0)
    assert servicer.joins == 1
    device.set()
    await asyncio.wait_for(servicer.second_join.wait(), 30)
    stop.set()
    await asyncio.wait_for(daemon, 30)


async def test_a_node_whose_device_hangs_for_good_ends(
    coordinator: tuple[Coordinator, str],
    config: Config,
    device: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("argus.node.daemon.HANGS_S", 1.5)
    monkeypatch.setattr("argus.node.daemon.STALL_FACTOR", 0.0)
    servicer, _ = coordinator
    daemon = asyncio.create_task(serve(config, asyncio.Event()))
    await servicer.until("heartbeat")
    device.clear()
    await asyncio.sleep(1.2)
    servicer.hang_up.set()
    with pytest.raises(InternalError, match="the device did nothing"):
        await asyncio.wait_for(daemon, 30)
