"""A node that speaks Join and makes fake images at a given pace, and a coordinator to talk to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc

from argus.clock import MonotonicClock
from argus.config import CoordinatorConfig
from argus.coordinator.service import Coordinator
from argus.rpc.bundles import unbundle
from argus.rpc.channel import open_channel
from argus.rpc.convert_cluster import node_info_to_proto
from argus.rpc.status import from_rpc_error
from argus.types import NodeInfo, VariantCosts
from argus.v1 import admin_pb2, cluster_pb2, image_pb2
from argus.v1.admin_pb2_grpc import AdminServiceStub
from argus.v1.cluster_pb2_grpc import ClusterServiceStub
from argus.v1.image_pb2_grpc import ImageServiceStub
from tests.unit.coordinator.bench import COSTS, info

EOF = grpc.aio.EOF


def picture(seed: int, steps: int) -> bytes:
    """Return what a scripted node makes: a function of what was asked alone."""
    return b"\x89PNG" + f"{seed}/{steps}".encode()


@dataclass
class Coordinated:
    """A running coordinator and the stubs to reach it."""

    coordinator: Coordinator
    address: str
    channel: grpc.aio.Channel

    def __post_init__(self) -> None:
        self.images = ImageServiceStub(self.channel)
        self.admin = AdminServiceStub(self.channel)

    async def generate(self, request_id: str = "r", **fields: Any) -> list[Any]:
        """Return all events of one request; errors as the exception tree knows them."""
        defaults = {"request_id": request_id, "prompt": "a red circle", "seed": 7}
        request = image_pb2.GenerateRequest(**(defaults | fields))
        try:
            return [event async for event in self.images.Generate(request)]
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error

    async def status(self) -> Any:
        return await self.admin.GetStatus(admin_pb2.GetStatusRequest())


@contextlib.asynccontextmanager
async def coordinated(**settings: Any) -> AsyncIterator[Coordinated]:
    defaults = {"bind": "127.0.0.1:0", "drain_grace_s": 0.2, "lease_s": 2.0}
    config = CoordinatorConfig(**(defaults | settings))
    coordinator = Coordinator(config, MonotonicClock())
    address = await coordinator.start()
    try:
        async with open_channel(address) as channel:
            yield Coordinated(coordinator, address, channel)
    finally:
        await coordinator.stop()


@dataclass
class ScriptedNode:
    """Answers work with fake images, `step_s` seconds a step; `hold_at` stops at that step."""

    name: str = "n1"
    step_s: float = 0.0
    hold_at: int | None = None
    beats: bool = True
    slots: int = 4
    bundles: bool = False
    """Whether it reads bundles, and sends all that it says of a row as one."""
    device_idle_s: float = 0.0
    costs: VariantCosts = COSTS
    metadata: tuple[tuple[str, str], ...] = ()
    works: list[cluster_pb2.Work] = field(default_factory=list)
    cancels: list[cluster_pb2.CancelWork] = field(default_factory=list)
    got_work: asyncio.Event = field(default_factory=asyncio.Event)
    got_cancel: asyncio.Event = field(default_factory=asyncio.Event)
    reached_hold: asyncio.Event = field(default_factory=asyncio.Event)
    drained: bool = False
    last_word: str | None = None
    """Kind of the last message that it heard."""
    resident: tuple[str, ...] = ()
    """Variants on its device, as heartbeats say."""
    said: dict[str, list[cluster_pb2.JoinRequest]] = field(default_factory=dict)
    """What it will say of each row as a bundle."""
    moves: list[cluster_pb2.MoveVariants] = field(default_factory=list)
    outbox: asyncio.Queue[cluster_pb2.JoinRequest | None] = field(default_factory=asyncio.Queue)
    """gRPC allows one write at a time, and a cancelled write ends the call: one task writes."""

    @property
    def info(self) -> NodeInfo:
        return info(self.name, self.slots, costs=self.costs)

    @contextlib.asynccontextmanager
    async def joined(self, address: str) -> AsyncIterator[ScriptedNode]:
        """Be a member inside the block; leaving it cuts the stream."""
        async with open_channel(address) as channel:
            self.call = ClusterServiceStub(channel).Join(metadata=self.metadata)
            self.rows: dict[tuple[str, int], asyncio.Task[None]] = {}
            hello = node_info_to_proto(self.info)
            hello.reads_bundles = self.bundles
            await self.call.write(cluster_pb2.JoinRequest(hello=hello))
            try:
                self.welcome = (await self.call.read()).welcome
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error) from error
            tasks = [asyncio.create_task(run()) for run in (self._listen, self._beat, self._send)]
            try:
                yield self
            finally:
                self.cut()
                tasks += self.rows.values()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def write(self, **message: Any) -> None:
        self.outbox.put_nowait(cluster_pb2.JoinRequest(**message))

    async def _send(self) -> None:
        while (message := await self.outbox.get()) is not None:
            await self.call.write(message)
        await self.call.done_writing()

    def cut(self) -> None:
        self.call.cancel()

    async def _beat(self) -> None:
        sequence = 0
        while self.beats:
            sequence += 1
            beat = cluster_pb2.Heartbeat(
                sequence=sequence,
                rows=len(self.rows),
                device_idle_s=self.device_idle_s,
                resident=self.resident,
            )
            self.write(heartbeat=beat)
            await asyncio.sleep(0.05)

    async def _listen(self) -> None:
        while (message := await self.call.read()) is not EOF:
            for each in unbundle(message):
                self.last_word = each.WhichOneof("message")
                await self._hear(each)

    async def _hear(self, message: cluster_pb2.JoinResponse) -> None:
        match message.WhichOneof("message"):
            case "work":
                self.works.append(message.work)
                self.got_work.set()
                row = (message.work.request_id, message.work.attempt)
                self.rows[row] = asyncio.create_task(self._run(message.work))
            case "cancel":
                self.cancels.append(message.cancel)
                self.got_cancel.set()
                row = (message.cancel.request_id, message.cancel.attempt)
                if row in self.rows:
                    self.rows.pop(row).cancel()
            case "move":
                self.moves.append(message.move)
                self.move(message.move)
            case "drain":
                self.drained = True
                self.write(draining=cluster_pb2.Draining())
                await asyncio.gather(*self.rows.values())
                self.outbox.put_nowait(None)

    def move(self, asked: cluster_pb2.MoveVariants) -> None:
        """Carry out an order at once."""
        held = [name for name in self.resident if name not in asked.park]
        self.resident = (*held, asked.load) if asked.load else tuple(held)
        moved = cluster_pb2.VariantsMoved(order=asked.order, resident=self.resident, seconds=0.5)
        self.write(moved=moved)

    def say(self, work: cluster_pb2.Work, **event: Any) -> None:
        said = cluster_pb2.WorkEvent(request_id=work.request_id, attempt=work.attempt, **event)
        if not self.bundles:
            self.write(event=said)
            return
        self.said.setdefault(work.request_id, []).append(cluster_pb2.JoinRequest(event=said))
        if said.HasField("done"):
            self.write(more=self.said.pop(work.request_id))

    async def _run(self, work: cluster_pb2.Work) -> None:
        self.say(work, started=cluster_pb2.WorkStarted())
        for step in range(1, work.steps + 1):
            if step == self.hold_at:
                self.reached_hold.set()
                await asyncio.Event().wait()
            await asyncio.sleep(self.step_s)
            progress = image_pb2.StepProgress(step=step, steps=work.steps, lanes=2)
            self.say(work, step=progress)
        done = cluster_pb2.WorkDone(
            data=picture(work.seed, work.steps), running_s=work.steps * self.step_s, max_lanes=2
        )
        self.say(work, done=done)
        self.rows.pop((work.request_id, work.attempt), None)
