"""A node that says of its rows what it likes and never finishes one: for `make chaos` only.

It joins with the hello of a real node under a name of its own, says that it is twice as fast, is in
the best of health by its own account, and reports steps that nobody has run: `stuck` says the same
step again and again, `wild` counts far beyond the last one. It prints `joined` and, when it is sent
away, why.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools

import grpc

from argus.client import AsyncClient
from argus.rpc.channel import open_channel
from argus.rpc.loop import run
from argus.v1 import cluster_pb2, image_pb2
from argus.v1.cluster_pb2_grpc import ClusterServiceStub

EOF = grpc.aio.EOF  # type: ignore[attr-defined]
NAME = "liar"
TELL_S = 0.2


async def lie(coordinator: str, kind: str) -> None:
    """Join, take rows, and tell stories until the coordinator has enough."""
    async with AsyncClient(coordinator) as client:
        hello = (await client.status()).nodes[0].hello
    hello.node = NAME
    for resident in hello.variants:
        # Twice as fast as anybody, so that it is given something to do.
        resident.decode_s /= 2
        for cost in resident.step_costs:
            cost.seconds /= 2
    works: dict[str, cluster_pb2.Work] = {}
    async with open_channel(coordinator) as channel:
        call = ClusterServiceStub(channel).Join()  # type: ignore[no-untyped-call]
        await call.write(cluster_pb2.JoinRequest(hello=hello))
        welcome = (await call.read()).welcome
        print("joined", NAME, flush=True)
        talking = asyncio.create_task(_talk(call, works, kind, welcome.heartbeat_interval_s))
        try:
            while (message := await call.read()) is not EOF:
                if message.WhichOneof("message") == "work":
                    works[message.work.request_id] = message.work
                elif message.WhichOneof("message") == "cancel":
                    works.pop(message.cancel.request_id, None)
        except grpc.aio.AioRpcError as error:
            print("sent away:", error.details(), flush=True)
        finally:
            talking.cancel()


async def _talk(
    call: grpc.aio.StreamStreamCall,  # type: ignore[type-arg]
    works: dict[str, cluster_pb2.Work],
    kind: str,
    interval_s: float,
) -> None:
    begun: set[tuple[str, int]] = set()
    for turn in itertools.count(1):
        beat = cluster_pb2.Heartbeat(
            sequence=turn, rows=len(works), slots_free=16, slowness=1.0, steps_total=8 * turn
        )
        beat.resident.extend({work.variant for work in works.values()})
        await call.write(cluster_pb2.JoinRequest(heartbeat=beat))
        for work in tuple(works.values()):
            row = (work.request_id, work.attempt)
            if row not in begun:
                begun.add(row)
                await _say(call, work, started=cluster_pb2.WorkStarted())
            step = 1 if kind == "stuck" else 100 * turn
            progress = image_pb2.StepProgress(step=step, steps=work.steps, lanes=2)
            await _say(call, work, step=progress)
        await asyncio.sleep(min(TELL_S, interval_s))


async def _say(call: grpc.aio.StreamStreamCall, work: cluster_pb2.Work, **event: object) -> None:  # type: ignore[type-arg]
    said = cluster_pb2.WorkEvent(request_id=work.request_id, attempt=work.attempt, **event)
    await call.write(cluster_pb2.JoinRequest(event=said))


def main() -> None:
    """Read the command line and lie."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--coordinator", required=True)
    parser.add_argument("--kind", choices=("stuck", "wild"), default="stuck")
    arguments = parser.parse_args()

    async def until_told(stop: asyncio.Event) -> None:
        lying = asyncio.create_task(lie(arguments.coordinator, arguments.kind))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({lying, stopped}, return_when=asyncio.FIRST_COMPLETED)
        lying.cancel()
        stopped.cancel()

    run(until_told)


if __name__ == "__main__":
    main()
