"""Nodes that answer at once, over the real Join protocol: what is left is the coordinator.

python bench/quick_nodes.py --coordinator HOST:PORT --nodes 4 prints `joined N` and then serves
until SIGTERM. A picture is a few bytes that depend on the seed; a row may take some time (--row-s)
and tell of its steps (--tell-steps).
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import grpc

from argus.rpc.bundles import bundle, gather, unbundle
from argus.rpc.channel import open_channel
from argus.rpc.convert_cluster import node_info_to_proto
from argus.rpc.loop import run
from argus.types import NodeInfo, StepCosts, VariantCosts, VariantInfo
from argus.v1 import cluster_pb2, image_pb2
from argus.v1.cluster_pb2_grpc import ClusterServiceStub

EOF = grpc.aio.EOF  # type: ignore[attr-defined]
VARIANT = VariantInfo(
    name="quick",
    pipeline="StableDiffusionPipeline",
    width=64,
    height=64,
    size_multiple=8,
    max_size=64,
    samplers=("ddim",),
    default_sampler="ddim",
    default_steps=4,
    default_guidance=1.0,
)
COSTS = VariantCosts(StepCosts((1, 2, 64), (1e-5, 1e-5, 1e-5)), text_encode_s=0.0, decode_s=1e-5)
PADDING = bytes(4096)
"""A picture of the bundled family takes about four thousand bytes."""


def picture(seed: int) -> bytes:
    """Return the picture of a seed."""
    return b"\x89PNG" + str(seed).encode() + PADDING


@dataclass(frozen=True, slots=True)
class Manner:
    """How a node works: seconds of a row, and whether each step is told of."""

    row_s: float = 0.0
    tell_steps: bool = False
    slots: int = 64


class QuickNode:
    """One member of the cluster.

    Args:
        name: unique.
        manner: how it works.
    """

    def __init__(self, name: str, manner: Manner) -> None:
        self._manner = manner
        self._info = NodeInfo(
            name=name,
            device="cpu",
            device_name="quick",
            memory_bytes=2**30,
            slots=manner.slots,
            max_lanes=64,
            argus_version="bench",
            variants=(VARIANT,),
            costs=(COSTS,),
        )
        self._outbox: asyncio.Queue[cluster_pb2.JoinRequest] = asyncio.Queue()
        self._rows = 0
        self._images = 0

    async def serve(self, coordinator: str, joined: Callable[[], None]) -> None:
        """Join and answer until the stream ends."""
        async with open_channel(coordinator) as channel:
            call = ClusterServiceStub(channel).Join()  # type: ignore[no-untyped-call]
            hello = node_info_to_proto(self._info)
            hello.reads_bundles = True
            await call.write(cluster_pb2.JoinRequest(hello=hello))
            welcome = (await call.read()).welcome
            tasks = [
                asyncio.create_task(self._send(call)),
                asyncio.create_task(self._beat(welcome.heartbeat_interval_s)),
            ]
            joined()
            try:
                while (message := await call.read()) is not EOF:
                    for each in unbundle(message):
                        if each.WhichOneof("message") == "work":
                            self._take(each.work)
            finally:
                for task in tasks:
                    task.cancel()

    def _take(self, work: cluster_pb2.Work) -> None:
        self._rows += 1
        self._say(work, started=cluster_pb2.WorkStarted())
        if self._manner.row_s:
            asyncio.get_running_loop().call_later(self._manner.row_s, self._finish, work)
        else:
            self._finish(work)

    def _finish(self, work: cluster_pb2.Work) -> None:
        if self._manner.tell_steps:
            for step in range(1, work.steps + 1):
                progress = image_pb2.StepProgress(step=step, steps=work.steps, lanes=1)
                self._say(work, step=progress)
        self._rows -= 1
        self._images += 1
        self._say(work, done=cluster_pb2.WorkDone(data=picture(work.seed), max_lanes=1))

    def _say(self, work: cluster_pb2.Work, **event: object) -> None:
        said = cluster_pb2.WorkEvent(request_id=work.request_id, attempt=work.attempt, **event)
        self._outbox.put_nowait(cluster_pb2.JoinRequest(event=said))

    async def _send(self, call: grpc.aio.StreamStreamCall) -> None:  # type: ignore[type-arg]
        while (first := await self._outbox.get()) is not None:
            await call.write(bundle(gather(first, self._waiting)))

    def _waiting(self) -> cluster_pb2.JoinRequest | None:
        return None if self._outbox.empty() else self._outbox.get_nowait()

    async def _beat(self, interval_s: float) -> None:
        sequence = 0
        while True:
            sequence += 1
            beat = cluster_pb2.Heartbeat(
                sequence=sequence,
                rows=self._rows,
                slots_free=max(0, self._manner.slots - self._rows),
                images_total=self._images,
            )
            self._outbox.put_nowait(cluster_pb2.JoinRequest(heartbeat=beat))
            await asyncio.sleep(interval_s)


async def serve(coordinator: str, nodes: int, manner: Manner, stop: asyncio.Event) -> None:
    """Run so many nodes until `stop` is set."""
    present = 0

    def joined() -> None:
        nonlocal present
        present += 1
        if present == nodes:
            print("joined", nodes, flush=True)

    async with asyncio.TaskGroup() as group:
        members = [
            group.create_task(QuickNode(f"quick-{n}", manner).serve(coordinator, joined))
            for n in range(nodes)
        ]
        await stop.wait()
        for member in members:
            member.cancel()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--coordinator", required=True)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--row-s", type=float, default=0.0)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--tell-steps", action="store_true")
    arguments = parser.parse_args()
    manner = Manner(arguments.row_s, arguments.tell_steps, arguments.slots)
    run(lambda stop: serve(arguments.coordinator, arguments.nodes, manner, stop))


if __name__ == "__main__":
    main()
