"""Makes a profile's pictures: every level for every prompt, through a real cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from argus.client import AsyncClient
from argus.client.request import Options
from argus.errors import FailedPreconditionError
from argus.quality.pictures import Key, WorkFolder
from argus.quality.prompts import Prompt
from argus.types import Level

CACHED, WHOLE = "profile-cached", "profile-whole"
"""Tenants: one whose cache holds the neighbours alone, and one for all that runs every step. So no
prompt ever finds itself."""
NEIGHBOUR = "neighbour"
"""What the pictures of neighbours are kept under in place of a level."""
REPORTED_S = 60.0


@dataclass(frozen=True, slots=True)
class Job:
    """One picture wanted."""

    key: Key
    prompt: Prompt
    seed: int
    level: Level
    tenant: str


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What a profile consists of.

    Attributes:
        prompts: to be judged.
        neighbours: whose states are cached before.
        levels: of the ladder, the reference level first.
        repeats: pictures of each prompt and level, each from noise of its own, by split.
        seed: from which all seeds are counted.
        steps: of the reference level; None: what the variant has as its default.
    """

    prompts: Sequence[Prompt]
    neighbours: Sequence[Prompt]
    levels: Sequence[Level]
    repeats: dict[str, int]
    seed: int
    steps: int | None = None

    def neighbour_jobs(self) -> list[Job]:
        """Return the pictures whose states are to be cached."""
        reference = self.levels[0]
        return [
            Job((p.id, 0, NEIGHBOUR), p, self.seed - 1 - i, reference, CACHED)
            for i, p in enumerate(self.neighbours)
        ]

    def jobs(self) -> list[Job]:
        """Return the pictures to be judged, level by level, those that continue states first.

        All levels of a prompt's repeat start from the same noise.
        """
        levels = sorted(self.levels, key=lambda level: level.skip_fraction == 0)
        return [
            Job(
                (p.id, repeat, level.name),
                p,
                self.seed + i + repeat * len(self.prompts),
                level,
                CACHED if level.skip_fraction else WHOLE,
            )
            for level in levels
            if self.neighbours or not level.skip_fraction
            for i, p in enumerate(self.prompts)
            for repeat in range(self.repeats.get(p.split, 1))
        ]


async def make_pictures(
    plan: RunPlan,
    client: AsyncClient,
    work: WorkFolder,
    concurrency: int,
    progress: Callable[[int, int], None],
) -> None:
    """Make what is missing in `work`.

    Neighbours are made again in every run, since the cluster's cache is as new as the cluster.

    Args:
        plan: what is wanted.
        client: of the cluster.
        work: where pictures go.
        concurrency: pictures that are asked for at a time.
        progress: told how many there are of how many, now and then.

    Raises:
        FailedPreconditionError: the cluster does not cache states although neighbours are given.
        ArgusError: a picture could not be made.
    """
    jobs = plan.jobs()
    missing = [job for job in jobs if job.key not in work]
    done = len(jobs) - len(missing)
    total = len(jobs) + len(plan.neighbours)
    progress(done, total)

    def advance() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    if any(job.level.skip_fraction for job in missing):
        await _make(plan.neighbour_jobs(), plan.steps, client, work, concurrency, advance)
        await _wait_for_entries(client, len(plan.neighbours))
    await _make(missing, plan.steps, client, work, concurrency, advance)


async def _make(
    jobs: Iterable[Job],
    steps: int | None,
    client: AsyncClient,
    work: WorkFolder,
    concurrency: int,
    advance: Callable[[], None],
) -> None:
    """Ask for pictures, so many at a time; the first failure ends all."""
    waiting = iter(jobs)

    async def worker() -> None:
        for job in waiting:
            options: Options = {"seed": job.seed, "level": job.level.name, "tenant": job.tenant}
            if steps is not None:
                options["steps"] = steps
            result = await client.generate(job.prompt.text, **options)
            work.add(job.key, result)
            advance()

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(worker())


async def _wait_for_entries(client: AsyncClient, number: int) -> None:
    """Wait until the index has the neighbours: nodes say with heartbeats what they keep."""
    entries = 0
    for _ in range(int(REPORTED_S)):
        entries = (await client.status()).cache.entries
        if entries >= number:
            return
        await asyncio.sleep(1.0)
    raise FailedPreconditionError(
        f"{number} neighbours were made, but the cache has {entries} entries; is it on, and large "
        "enough?"
    )
