"""A coordinator that says what a test queues, for a real daemon to talk to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from argus.rpc.convert_cluster import node_info_from_proto
from argus.v1 import cluster_pb2, cluster_pb2_grpc


class Coordinator(cluster_pb2_grpc.ClusterServiceServicer):
    """Welcomes nodes, sends what the test queues, and keeps what it hears."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[cluster_pb2.JoinRequest] = asyncio.Queue()
        self.to_send: asyncio.Queue[cluster_pb2.JoinResponse] = asyncio.Queue()
        self.refuse_with: grpc.StatusCode | None = None
        self.hang_up = asyncio.Event()
        self.joins = 0
        self.second_join, self.third_join = asyncio.Event(), asyncio.Event()
        self.hellos: list[cluster_pb2.NodeHello] = []
        self.welcome: dict[str, Any] = {}
        """What it says beyond what coordinators have always said."""

    async def Join(self, requests: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        self.joins += 1
        if self.joins == 2:
            self.second_join.set()
        if self.joins == 3:
            self.third_join.set()
        if self.refuse_with is not None:
            await context.abort(self.refuse_with, "no")
        hello = await anext(requests)
        node_info_from_proto(hello.hello)
        self.hellos.append(hello.hello)
        yield cluster_pb2.JoinResponse(
            welcome=cluster_pb2.Welcome(lease_s=1.0, heartbeat_interval_s=0.05, **self.welcome)
        )

        async def hear() -> None:
            async for request in requests:
                await self.heard.put(request)

        hearing = asyncio.create_task(hear())
        hanging = asyncio.create_task(self.hang_up.wait())
        while not hearing.done() and not hanging.done():
            sending = asyncio.create_task(self.to_send.get())
            await asyncio.wait({hearing, hanging, sending}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                yield sending.result()
            else:
                sending.cancel()
        hanging.cancel()
        self.hang_up.clear()

    async def until(self, kind: str) -> list[cluster_pb2.JoinRequest]:
        """Return what was heard up to and with the first message or event of that kind."""
        got = []
        while True:
            got.append(await asyncio.wait_for(self.heard.get(), 30))
            message = got[-1]
            if kind in {message.WhichOneof("message"), message.event.WhichOneof("event")}:
                return got

    async def send(self, **message: Any) -> None:
        await self.to_send.put(cluster_pb2.JoinResponse(**message))


def work(name: str, **changes: Any) -> cluster_pb2.Work:
    fields: dict[str, Any] = {
        "request_id": name,
        "attempt": 1,
        "prompt": "a red circle",
        "seed": 7,
        "width": 32,
        "height": 32,
        "steps": 5,
        "guidance": 5.0,
        "sampler": "ddim",
        "variant": "tiny-eps",
        "level": "reference",
        "format": 1,
    }
    return cluster_pb2.Work(**(fields | changes))
