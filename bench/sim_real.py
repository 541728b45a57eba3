"""One trace on a real cluster of CPU nodes and in the simulator, side by side."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from arrivals import poisson
from local_cluster import LocalCluster

from argus.client import AsyncClient
from argus.client.result import ImageResult
from argus.client.retries import Retries
from argus.control.policies import make
from argus.errors import ArgusError
from argus.sim.engine import simulate
from argus.sim.outcome import Outcome, Status
from argus.sim.setting import SimSetting
from argus.sim.types import Batching, PromptTable, SimLevel, SimProfile, Trace

NODES = 2
SLOTS = 4
STEPS = 20
"""Of the reference level."""
VARIANT = "scenes-base"
LEVELS = {"whole": (1.0, 1.0), "half": (0.5, 0.9), "fifth": (0.2, 0.75)}
"""Share of the steps, and quality: set, not measured; both sides count with the same ones."""
PROMPT = "a red circle left of a blue square"
ROUNDS = 3
"""Pictures of each measurement for every place in the cluster."""
LOOKAHEAD = 2
"""As the coordinator has it."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What came of one trace on both sides.

    Attributes:
        real, simulated: every arrival's end.
        profile: what the simulator was given.
        drift: seconds of a row after the trace relative to before it.
    """

    real: Outcome
    simulated: Outcome
    profile: SimProfile
    drift: float

    @property
    def goodput_ratio(self) -> float:
        """Simulated goodput over real goodput."""
        return self.simulated.goodput / self.real.goodput

    @property
    def quality_gap(self) -> float:
        """Simulated minus real quality over all requests."""
        return self.simulated.quality_of_all - self.real.quality_of_all


async def compare(folder: Path, load: float, seconds: float, policy: str, seed: int) -> Compared:
    """Measure a profile, run a Poisson trace, measure again, and simulate it with the mean.

    Args:
        folder: for the level file.
        load: arrivals relative to what the nodes make of the reference level in full batches.
        seconds: length of the trace on an idle machine of reference rows: it is stretched so
            that a row alone takes one of them.
        policy: name, for both sides.
        seed: of the arrivals.
    """
    levels = write_levels(folder / "levels.json")
    flags = ("--threads", "1", "--slots", str(SLOTS), "--max-lanes", str(2 * SLOTS))
    extra = (*flags, "--levels", str(levels), "--cache", "off")
    with LocalCluster(NODES, extra) as cluster:
        async with AsyncClient(cluster.address, retries=Retries(attempts=1)) as client:
            await together(client, NODES * SLOTS, "whole")  # what is slow the first time
            before = await measure(client)
            row_s, full_s = before.levels[0].seconds, before.levels[0].seconds * full(before)
            slo_s = 1.5 * full_s
            arrivals = poisson(load * NODES * SLOTS / full_s, seconds * row_s, seed)
            real = await replay(client, arrivals, slo_s)
            after = await measure(client)
    profile = mean_of(before, after, slo_s)
    trace = Trace(np.array(arrivals), np.array(["p"] * len(arrivals)))
    quality = np.array([[quality for _, quality in LEVELS.values()]])
    prompts = PromptTable(np.array(["p"]), np.array([0.0]), quality, quality)
    setting = SimSetting(nodes=NODES, lookahead=LOOKAHEAD, drop_late=True)
    simulated = simulate(trace, prompts, profile, make(policy), setting)
    return Compared(real, simulated, profile, after.levels[0].seconds / row_s)


def write_levels(path: Path) -> Path:
    """Write the level file of the comparison."""
    rows = [
        {
            "name": name,
            "variant": VARIANT,
            "steps_fraction": share,
            "quality": quality,
            "measured": "set for a comparison of two schedules",
        }
        for name, (share, quality) in LEVELS.items()
    ]
    path.write_text(json.dumps({"reference": {"variant": VARIANT}, "levels": rows}))
    return path


async def measure(client: AsyncClient) -> SimProfile:
    """Measure levels alone, and the reference level in batches, on all nodes at once."""
    alone = {name: await together(client, NODES, name) for name in LEVELS}
    lanes, scale = [2], [1.0]
    for rows in (2, SLOTS):
        seconds = await together(client, NODES * rows, "whole")
        lanes.append(2 * rows)
        scale.append(max(scale[-1], seconds / alone["whole"]))
    levels = tuple(
        SimLevel(name, VARIANT, 0, alone[name], quality, max(1, round(STEPS * share)))
        for name, (share, quality) in LEVELS.items()
    )
    return SimProfile(levels, 1.0, Batching(tuple(lanes), tuple(scale)))


def full(profile: SimProfile) -> float:
    """Return what a row takes in full batches relative to one alone."""
    return profile.batching.seconds_scale[-1]


def mean_of(before: SimProfile, after: SimProfile, slo_s: float) -> SimProfile:
    """Return the profile between two measurements."""
    levels = tuple(
        SimLevel(a.name, a.variant, 0, (a.seconds + b.seconds) / 2, a.quality, a.forwards)
        for a, b in zip(before.levels, after.levels, strict=True)
    )
    pairs = zip(before.batching.seconds_scale, after.batching.seconds_scale, strict=True)
    scale = tuple((a + b) / 2 for a, b in pairs)
    return SimProfile(levels, slo_s, Batching(before.batching.lanes, scale))


async def together(client: AsyncClient, in_flight: int, level: str) -> float:
    """Keep so many requests of a level in flight; return the median seconds of one.

    The first of each chain finds the batches not full and the last finds them emptying; with
    `ROUNDS` of them one in the middle counts.
    """

    async def chain(first: int) -> list[float]:
        seconds = []
        for i in range(ROUNDS):
            began = time.perf_counter()
            await client.generate(PROMPT, level=level, steps=STEPS, seed=first * ROUNDS + i)
            seconds.append(time.perf_counter() - began)
        return seconds

    chains = await asyncio.gather(*(chain(i) for i in range(in_flight)))
    return median(seconds for own in chains for seconds in own[1:] or own)


async def replay(client: AsyncClient, arrivals: Sequence[float], slo_s: float) -> Outcome:
    """Send each request at its time with its deadline; return how each ended."""
    began = time.perf_counter()

    async def one(at_s: float, seed: int) -> tuple[float, ImageResult | None]:
        await asyncio.sleep(max(0.0, began + at_s - time.perf_counter()))
        try:
            image = await client.generate(PROMPT, steps=STEPS, seed=seed, deadline_s=slo_s)
        except ArgusError:
            return time.perf_counter() - began, None
        return time.perf_counter() - began, image

    ends = await asyncio.gather(*(one(at_s, i) for i, at_s in enumerate(arrivals)))
    names = list(LEVELS)
    levels = [-1 if image is None else names.index(image.level) for _, image in ends]
    qualities = [quality for _, quality in LEVELS.values()]
    at, finish = np.array(arrivals), np.array([end_s for end_s, _ in ends])
    made = np.array(levels) >= 0
    on_time = made & (finish <= at + slo_s)
    return Outcome(
        prompt_id=np.array(["p"] * len(at)),
        arrival_s=at,
        start_s=np.full(len(at), np.nan),
        finish_s=np.where(made, finish, np.nan),
        level=np.array(levels),
        node=np.where(made, 0, -1),
        deadline_s=at + slo_s,
        quality=np.array([qualities[level] if level >= 0 else 0.0 for level in levels]),
        status=np.where(on_time, Status.ON_TIME, np.where(made, Status.LATE, Status.DROPPED)),
        decisions=0,
        policy_s=0.0,
        wall_s=0.0,
    )
