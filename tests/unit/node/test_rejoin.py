"""A real daemon between coordinators that come and go, on loopback."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import grpc
import pytest

from argus.config import Config
from argus.errors import UnavailableError
from argus.node.daemon import serve
from argus.node.session import Fence
from argus.v1 import cluster_pb2, cluster_pb2_grpc
from tests.unit.node.scripted import Coordinator, work


async def test_rows_are_kept_and_handed_over_to_the_coordinator_that_leads_next(
    coordinator: tuple[Coordinator, str], config: Config
) -> None:
    first, address = coordinator
    server, second = grpc.aio.server(), Coordinator()
    cluster_pb2_grpc.add_ClusterServiceServicer_to_server(second, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    first.welcome = {"takes_rows": True, "run": "one", "epoch": 1}
    second.welcome = {"takes_rows": True, "run": "two", "epoch": 2}
    both = f"{address},127.0.0.1:{port}"
    config = replace(config, node=replace(config.node, coordinator=both))
    stop = asyncio.Event()
    daemon = asyncio.create_task(serve(config, stop))
    try:
        await first.until("heartbeat")
        await first.send(work=work("kept", steps=60))
        await first.until("started")
        first.refuse_with = grpc.StatusCode.UNAVAILABLE
        first.hang_up.set()
        heard = await second.until("done")
        (held,) = second.hellos[0].held
        assert (held.work.request_id, held.run, held.ended) == ("kept", "one", False)
        assert held.HasField("started")
        assert "started" not in [m.event.WhichOneof("event") for m in heard]
        assert heard[-1].event.done.forwards == 60

        # The one that leads no more is not listened to.
        first.refuse_with, joins = None, second.joins
        second.hang_up.set()
        await second.until("heartbeat")
        while second.joins == joins:
            await second.until("heartbeat")
        assert [row.work.request_id for row in second.hellos[1].held] == ["kept"]
        stop.set()
        await asyncio.wait_for(daemon, 30)
    finally:
        daemon.cancel()
        await asyncio.gather(daemon, return_exceptions=True)
        await server.stop(0)


async def test_a_coordinator_that_falls_silent_is_left(
    coordinator: tuple[Coordinator, str], config: Config
) -> None:
    servicer, _ = coordinator
    servicer.welcome = {"takes_rows": True, "run": "one", "pulse_interval_s": 0.1}
    stop = asyncio.Event()
    daemon = asyncio.create_task(serve(config, stop))
    async with asyncio.timeout(60):
        while servicer.joins < 2:
            await servicer.until("heartbeat")
    servicer.welcome = {}
    stop.set()
    await asyncio.wait_for(daemon, 30)


async def test_a_draining_node_comes_back_to_hand_over_its_row(
    coordinator: tuple[Coordinator, str], config: Config
) -> None:
    servicer, _ = coordinator
    servicer.welcome = {"takes_rows": True, "run": "one"}
    daemon = asyncio.create_task(serve(config, asyncio.Event()))
    await servicer.until("heartbeat")
    await servicer.send(work=work("r1", steps=60))
    await servicer.until("started")
    await servicer.send(drain=cluster_pb2.Drain())
    await servicer.until("draining")
    servicer.hang_up.set()
    heard = await servicer.until("done")
    assert "draining" in [m.WhichOneof("message") for m in heard]
    await asyncio.wait_for(daemon, 30)
    assert servicer.joins == 2


async def test_a_node_whose_coordinator_has_settled_everything_need_not_find_another_to_leave(
    coordinator: tuple[Coordinator, str], config: Config
) -> None:
    servicer, _ = coordinator
    servicer.welcome = {"takes_rows": True, "run": "one"}
    stop = asyncio.Event()
    daemon = asyncio.create_task(serve(config, stop))
    await servicer.until("heartbeat")
    await servicer.send(work=work("r1"))
    await servicer.until("done")
    await servicer.send(settled=cluster_pb2.Settled())
    await servicer.until("heartbeat")
    servicer.refuse_with = grpc.StatusCode.UNAVAILABLE
    servicer.hang_up.set()
    await asyncio.wait_for(servicer.second_join.wait(), 30)
    stop.set()
    # It would raise that its coordinator is away.
    await asyncio.wait_for(daemon, 30)


def test_a_smaller_epoch_than_was_seen_is_refused() -> None:
    fence = Fence()
    for epoch in (0, 3, 3, 5, 0):
        fence.check(epoch)
    with pytest.raises(UnavailableError, match="leads no more: its epoch is 4, and 5 was seen"):
        fence.check(4)
    fence.check(6)
