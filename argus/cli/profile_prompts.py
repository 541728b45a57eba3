"""The part of `argus profile` that makes pictures: what levels do to prompts."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from argus.cli.family import FamilyPlan, run_family
from argus.client import AsyncClient
from argus.errors import ArgusError, FailedPreconditionError
from argus.quality.pictures import WorkFolder
from argus.quality.run import RunPlan, make_pictures

EMBEDDER_WAIT_S = 120.0
POLL_S = 0.2
LINES = 100
"""Lines that a whole run says where stderr is no terminal."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where the pictures are made.

    Attributes:
        server: HOST:PORT of a running coordinator; empty: one is started.
        coordinator: arguments of the one that is started.
        nodes: arguments of its nodes, by name.
        slots: rows that all nodes hold at once.
    """

    server: str = ""
    coordinator: tuple[str, ...] = ()
    nodes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    slots: int = 16


def run_pictures(plan: RunPlan, cluster: Cluster, folder: Path, settings: dict[str, Any]) -> None:
    """Make all pictures of a plan in `folder`, and go on where an earlier run ended.

    Raises:
        ArgusError: the cluster does not start, or a picture cannot be made.
    """
    from argus.rpc.loop import run

    work = WorkFolder(folder, settings)

    async def main(stop: asyncio.Event) -> None:
        with _bar() as progress:
            if cluster.server:
                await _make(plan, cluster.server, cluster.slots, work, progress)
                return
            await _with_own_cluster(plan, cluster, work, progress, stop)

    with contextlib.closing(work):
        run(main)


async def _with_own_cluster(
    plan: RunPlan,
    cluster: Cluster,
    work: WorkFolder,
    progress: Callable[[int, int], None],
    stop: asyncio.Event,
) -> None:
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    family = FamilyPlan("127.0.0.1:0", cluster.coordinator, cluster.nodes, grace_s=5.0)
    life = asyncio.ensure_future(run_family(family, stop, address.set_result))
    making: asyncio.Future[None] | None = None
    try:
        await asyncio.wait({life, address}, return_when=asyncio.FIRST_COMPLETED)
        if life.done():
            life.result()
            return
        making = asyncio.ensure_future(_make(plan, address.result(), cluster.slots, work, progress))
        await asyncio.wait({life, making}, return_when=asyncio.FIRST_COMPLETED)
        if making.done():
            making.result()
        else:
            making.cancel()
    except ExceptionGroup as group:
        raise _first(group) from group
    finally:
        stop.set()
        await asyncio.gather(life, return_exceptions=True)


def _first(group: ExceptionGroup[Exception]) -> Exception:
    """Return what ended a group of tasks: the others were cancelled."""
    own = [error for error in group.exceptions if isinstance(error, ArgusError)]
    return own[0] if own else group.exceptions[0]


async def _make(
    plan: RunPlan,
    server: str,
    slots: int,
    work: WorkFolder,
    progress: Callable[[int, int], None],
) -> None:
    async with AsyncClient(server) as client:
        if plan.neighbours:
            await _wait_for_embedder(client)
        # A few more than fit, so that no slot waits for a round trip.
        await make_pictures(plan, client, work, slots + slots // 4 + 2, progress)


async def _wait_for_embedder(client: AsyncClient) -> None:
    """Wait until states are kept: before prompts can be embedded nothing is."""
    for _ in range(int(EMBEDDER_WAIT_S / POLL_S)):
        if (await client.status()).cache.embedder:
            return
        await asyncio.sleep(POLL_S)
    raise FailedPreconditionError(
        "neighbours were given, but the cluster cannot embed prompts; is its cache on?"
    )


@contextlib.contextmanager
def _bar() -> Any:
    """Show how far the run is: a bar on a terminal, now and then a line elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines()
        return
    bar = Progress(
        BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
        console=console, transient=True,
    )  # fmt: skip
    with bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _lines() -> Callable[[int, int], None]:
    said = -1

    def say(done: int, total: int) -> None:
        nonlocal said
        share = done * LINES // max(1, total)
        if share != said:
            said = share
            print(f"{done} of {total} pictures", file=sys.stderr, flush=True)

    return say
