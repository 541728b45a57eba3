"""Nodes that answer at once, over the real Join protocol: what is left is the coordinator.

python bench/quick_nodes.py --coordinator HOST:PORT --nodes 4 prints `joined N` and then serves
until SIGTERM. A picture is a few bytes that depend on the seed. A step may take some time
(--step-s), as on a device of its own that makes the rows of all slots side by side, and be told of
(--tell-steps).
"""

from __future__ import annotations

import argparse
import asyncio
import math
from collections import deque
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
AT_ONCE_S = 1e-5
PADDING = bytes(4096)
"""A picture of the bundled family takes about four thousand bytes."""


def picture(seed: int) -> bytes:
    """Return the picture of a seed."""
    return b"\x89PNG" + str(seed).encode() + PADDING


@dataclass(frozen=True, slots=True)
class Manner:
    """How a node works.

    Attributes:
        step_s: seconds of a step, whatever the company; 0: rows are done at once.
        tell_steps: whether each step is told of.
        slots: rows that it makes side by side; others wait until one is free.
    """

    step_s: float = 0.0
    tell_steps: bool = False
    slots: int = 64

    @property
    def costs(self) -> VariantCosts:
        """What a node says of itself."""
        step_s = self.step_s or AT_ONCE_S
        steps = StepCosts((1, 2, 64), (step_s, step_s, step_s))
        return VariantCosts(steps, text_encode_s=0.0, decode_s=AT_ONCE_S)


class _Row:
    """A row, and how far it is; its deadline is on the loop's clock."""

    def __init__(self, work: cluster_pb2.Work, now_s: float) -> None:
        self.work = work
        self.deadline_s = now_s + work.deadline_s if work.HasField("deadline_s") else math.inf
        self.done = 0
        self.running = self.ended = False


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
            costs=(manner.costs,),
        )
        self._outbox: asyncio.Queue[cluster_pb2.JoinRequest] = asyncio.Queue()
        self._rows: dict[str, _Row] = {}
        self._waiting: deque[_Row] = deque()
        self._running = 0
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
                        kind = each.WhichOneof("message")
                        if kind == "work":
                            self._take(each.work)
                        elif kind == "cancel" and each.cancel.request_id in self._rows:
                            row = self._rows[each.cancel.request_id]
                            self._fail(row, cluster_pb2.WORK_FAILURE_CANCELLED)
            finally:
                for task in tasks:
                    task.cancel()

    def _take(self, work: cluster_pb2.Work) -> None:
        row = _Row(work, asyncio.get_running_loop().time())
        self._rows[work.request_id] = row
        self._waiting.append(row)
        self._fill()

    def _fill(self) -> None:
        """Give free slots to rows that wait."""
        while self._waiting and self._running < self._manner.slots:
            row = self._waiting.popleft()
            if row.ended:
                continue
            self._running += 1
            row.running = True
            self._say(row.work, started=cluster_pb2.WorkStarted())
            self._go_on(row, asyncio.get_running_loop().time())

    def _go_on(self, row: _Row, now_s: float) -> None:
        """Do the next steps of a row; `now_s` is when the last one was over."""
        if now_s > row.deadline_s:
            self._fail(row, cluster_pb2.WORK_FAILURE_LATE)
        elif row.done == row.work.steps:
            self._end(row, done=cluster_pb2.WorkDone(data=picture(row.work.seed), max_lanes=1))
            self._images += 1
        else:
            many = 1 if self._manner.tell_steps else row.work.steps - row.done
            due_s = now_s + many * self._manner.step_s
            if self._manner.step_s:
                asyncio.get_running_loop().call_at(due_s, self._stepped, row, many, due_s)
            else:
                self._stepped(row, many, due_s)

    def _stepped(self, row: _Row, many: int, due_s: float) -> None:
        if row.ended:
            return
        row.done += many
        if self._manner.tell_steps:
            progress = image_pb2.StepProgress(step=row.done, steps=row.work.steps, lanes=1)
            self._say(row.work, step=progress)
        self._go_on(row, due_s)

    def _fail(self, row: _Row, reason: cluster_pb2.WorkFailure) -> None:
        self._end(row, failed=cluster_pb2.WorkFailed(reason=reason))

    def _end(self, row: _Row, **event: object) -> None:
        """Say how a row ended, and use its slot."""
        row.ended = True
        del self._rows[row.work.request_id]
        self._say(row.work, **event)
        if row.running:
            self._running -= 1
            if self._waiting:
                asyncio.get_running_loop().call_soon(self._fill)

    def _say(self, work: cluster_pb2.Work, **event: object) -> None:
        said = cluster_pb2.WorkEvent(request_id=work.request_id, attempt=work.attempt, **event)
        self._outbox.put_nowait(cluster_pb2.JoinRequest(event=said))

    async def _send(self, call: grpc.aio.StreamStreamCall) -> None:  # type: ignore[type-arg]
        while (first := await self._outbox.get()) is not None:
            await call.write(bundle(gather(first, self._more)))

    def _more(self) -> cluster_pb2.JoinRequest | None:
        return None if self._outbox.empty() else self._outbox.get_nowait()

    async def _beat(self, interval_s: float) -> None:
        sequence = 0
        while True:
            sequence += 1
            beat = cluster_pb2.Heartbeat(
                sequence=sequence,
                rows=self._running,
                waiting=len(self._rows) - self._running,
                slots_free=self._manner.slots - self._running,
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
    parser.add_argument("--step-s", type=float, default=0.0)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--tell-steps", action="store_true")
    arguments = parser.parse_args()
    manner = Manner(arguments.step_s, arguments.tell_steps, arguments.slots)
    run(lambda stop: serve(arguments.coordinator, arguments.nodes, manner, stop))


if __name__ == "__main__":
    main()
