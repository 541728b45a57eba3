"""The cluster of `argus profile`: started for the pictures and ended after them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from argus.cli.family import FamilyPlan, run_family
from argus.client import AsyncClient
from argus.errors import ArgusError, FailedPreconditionError
from argus.quality.pictures import WorkFolder
from argus.quality.run import RunPlan, make_pictures
from argus.rpc.loop import run

EMBEDDER_WAIT_S = 120.0
POLL_S = 0.2
GRACE_S = 5.0
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Cluster:
    """What to start.

    Attributes:
        coordinator: arguments of the coordinator.
        nodes: arguments of the nodes, by name.
        slots: rows that all nodes hold at once.
    """

    coordinator: tuple[str, ...]
    nodes: dict[str, tuple[str, ...]]
    slots: int

    @property
    def concurrency(self) -> int:
        """Pictures asked for at a time: a few more than fit, so that no slot waits for one."""
        return self.slots + self.slots // 4 + 2


def run_pictures(plan: RunPlan, cluster: Cluster, work: WorkFolder, progress: Progress) -> None:
    """Make all pictures of a plan that `work` lacks.

    Raises:
        ArgusError: the cluster does not start, or a picture cannot be made.
    """
    if all(job.key in work for job in (*plan.jobs(), *plan.neighbour_jobs())):
        return
    run(lambda stop: _run(plan, cluster, work, progress, stop))


async def _run(
    plan: RunPlan, cluster: Cluster, work: WorkFolder, progress: Progress, stop: asyncio.Event
) -> None:
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    family = FamilyPlan("127.0.0.1:0", cluster.coordinator, cluster.nodes, GRACE_S)
    life = asyncio.ensure_future(run_family(family, stop, address.set_result))
    try:
        await asyncio.wait((life, address), return_when=asyncio.FIRST_COMPLETED)
        if not life.done():
            making = asyncio.ensure_future(_make(plan, address.result(), cluster, work, progress))
            await asyncio.wait((life, making), return_when=asyncio.FIRST_COMPLETED)
            making.cancel()
            await asyncio.gather(making, return_exceptions=True)
            if not making.cancelled():
                making.result()
    except* ArgusError as group:
        # One failed, and the others were cancelled.
        raise group.exceptions[0] from None
    finally:
        stop.set()
        await asyncio.gather(life, return_exceptions=True)
    life.result()


async def _make(
    plan: RunPlan, server: str, cluster: Cluster, work: WorkFolder, progress: Progress
) -> None:
    async with AsyncClient(server) as client:
        if plan.neighbours:
            await _wait_for_embedder(client)
        await make_pictures(plan, client, work, cluster.concurrency, progress)


async def _wait_for_embedder(client: AsyncClient) -> None:
    """Wait until states are kept: before prompts can be embedded nothing is."""
    for _ in range(int(EMBEDDER_WAIT_S / POLL_S)):
        if (await client.status()).cache.embedder:
            return
        await asyncio.sleep(POLL_S)
    raise FailedPreconditionError(
        "neighbours were given, but the cluster cannot embed prompts; is its cache on?"
    )
