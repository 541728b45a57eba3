"""The same traces on a real cluster of CPU nodes and in the simulator, side by side.

Both sides begin each trace knowing nothing of the traffic: the real one has a new coordinator,
whose margins, rates and prices have heard of no measurement. What a node takes is measured before
and after each trace, with both nodes at work.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median, stdev

import numpy as np
from arrivals import poisson
from replay import Ended, Wanted, replay
from serving_cluster import ServingCluster, until_idle, write_config

from argus.client import AsyncClient
from argus.control.policies import make
from argus.rpc.convert_cluster import node_info_from_proto
from argus.sim.engine import simulate
from argus.sim.outcome import Outcome, Status
from argus.sim.setting import SimSetting
from argus.sim.types import Batching, PromptTable, SimLevel, SimProfile, Trace, VariantTimes

NODES = 2
SLOTS = 4
STEPS = 20
"""Of the reference level."""
VARIANT = "scenes-base"
LEVELS = {"whole": (1.0, 1.0), "half": (0.5, 0.9), "fifth": (0.2, 0.75)}
"""Share of the steps, and quality: set, not measured; both sides count with the same ones. No
predictor knows these levels, so that both go by them."""
PROMPT = "a red circle left of a blue square"
ROUNDS = 4
"""Pictures of each measurement for every place in the cluster."""
LOOKAHEAD = 2
"""As the coordinator has it."""


@dataclass(frozen=True, slots=True)
class Times:
    """What a node takes, with all nodes at work. Seconds.

    Attributes:
        alone: from a request to its picture with one row on each node, by level.
        rows: the same of the reference level with so many rows on each node, from 2 on.
        text_s, decode_s: of these what the device spends on text and on pixels.
    """

    alone: tuple[float, ...]
    rows: tuple[float, ...]
    text_s: float
    decode_s: float

    @property
    def full_s(self) -> float:
        """A reference row in full batches."""
        return self.rows[-1]


def profile_of(times: Times, slo_s: float) -> SimProfile:
    """Return what the simulator is given.

    A row's seconds are a line over its forwards. What is left beside them, text and pixels, the
    device does for one row after the other: with n rows at work each waits for n of them. The rest
    is spent on the way (messages, compression), which keeps no device busy and is left out.
    """
    forwards = np.array([max(1, round(STEPS * share)) for share, _ in LEVELS.values()])
    step_s, beside_s = np.polyfit(forwards, times.alone, 1)
    device_s = times.text_s + times.decode_s
    way_s = max(0.0, float(beside_s) - device_s)
    levels = tuple(
        SimLevel(name, VARIANT, 0, seconds - way_s, quality, int(n))
        for (name, (_, quality)), seconds, n in zip(
            LEVELS.items(), times.alone, forwards, strict=True
        )
    )
    scale = [1.0]
    for rows, seconds in enumerate(times.rows, start=2):
        steps_s = seconds - way_s - rows * device_s
        scale.append(max(scale[-1], steps_s / (forwards[0] * float(step_s))))
    lanes = tuple(2 * rows for rows in range(1, SLOTS + 1))
    variants = {VARIANT: VariantTimes(times.text_s, times.decode_s)}
    return SimProfile(levels, slo_s, Batching(lanes, tuple(scale)), variants=variants)


def between(before: Times, after: Times) -> Times:
    """Return the mean of two measurements."""

    def mean(a: Sequence[float], b: Sequence[float]) -> tuple[float, ...]:
        return tuple((x + y) / 2 for x, y in zip(a, b, strict=True))

    return Times(
        mean(before.alone, after.alone),
        mean(before.rows, after.rows),
        (before.text_s + after.text_s) / 2,
        (before.decode_s + after.decode_s) / 2,
    )


@dataclass(frozen=True, slots=True)
class Pair:
    """One trace on both sides.

    Attributes:
        real, simulated: every arrival's end.
        profile: what the simulator was given.
        drift: seconds of full batches after the trace relative to before it.
    """

    real: Outcome
    simulated: Outcome
    profile: SimProfile
    drift: float

    @property
    def quality_gap(self) -> float:
        """Simulated minus real quality over all requests."""
        return self.simulated.quality_of_all - self.real.quality_of_all


@dataclass(frozen=True, slots=True)
class Compared:
    """Traces of one load."""

    pairs: tuple[Pair, ...]

    @property
    def goodput_ratio(self) -> float:
        """Simulated over real goodput, of all traces."""
        simulated = fmean(pair.simulated.goodput for pair in self.pairs)
        return simulated / fmean(pair.real.goodput for pair in self.pairs)

    @property
    def quality_gap(self) -> float:
        """Simulated minus real quality over all requests of all traces."""
        requests = sum(len(pair.real) for pair in self.pairs)
        return sum(pair.quality_gap * len(pair.real) for pair in self.pairs) / requests

    @property
    def quality_error(self) -> float:
        """Standard error of that, from how the traces differ; NaN for a single one."""
        gaps = [pair.quality_gap for pair in self.pairs]
        return stdev(gaps) / math.sqrt(len(gaps)) if len(gaps) > 1 else math.nan


async def compare(
    folder: Path, load: float, seconds: float, policy: str, traces: int, most: int, steady: float
) -> Compared:
    """Run Poisson traces on both sides until so many count.

    Args:
        folder: for settings and the level file.
        load: arrivals relative to what the nodes make of the reference level in full batches.
        seconds: length of a trace on a machine on which a reference row alone takes one of them;
            it is stretched by what it takes here.
        policy: name, for both sides.
        traces: how many are to count.
        most: that are run at most.
        steady: a trace counts where full batches take at most that much longer or shorter after it
            than before it. Whether the sides agree has no part in it.
    """
    config = write_config(folder, write_levels(folder / "levels.json"), SLOTS)
    pairs: list[Pair] = []
    async with ServingCluster(NODES, config) as cluster:
        async with cluster.coordinator(policy) as client:
            await together(client, NODES * SLOTS, "whole")  # what is slow the first time
            before = first = await measure(client)
        slo_s = 1.5 * first.full_s
        for seed in range(most):
            rate = load * NODES * SLOTS / first.full_s
            arrivals = poisson(rate, seconds * first.alone[0], seed)
            async with cluster.coordinator(policy) as client:
                await until_idle()
                wanted = [Wanted(at_s, PROMPT, i) for i, at_s in enumerate(arrivals)]
                ended = await replay(client, wanted, slo_s, STEPS)
                after = await measure(client)
            drift = after.full_s / before.full_s
            if 1 / steady < drift < steady:
                profile = profile_of(between(before, after), slo_s)
                pairs.append(_pair(wanted, ended, profile, policy, drift))
            before = after
            if len(pairs) == traces:
                break
    return Compared(tuple(pairs))


def _pair(
    wanted: Sequence[Wanted], ended: Sequence[Ended], profile: SimProfile, policy: str, drift: float
) -> Pair:
    """Simulate what was sent, at the moments at which it was."""
    real = outcome_of(wanted, ended, profile.slo_s)
    trace = Trace(np.sort([end.sent_s for end in ended]), real.prompt_id)
    quality = np.array([[quality for _, quality in LEVELS.values()]])
    prompts = PromptTable(np.array(["p"]), np.array([0.0]), quality, quality)
    setting = SimSetting(nodes=NODES, lookahead=LOOKAHEAD, drop_late=True)
    return Pair(real, simulate(trace, prompts, profile, make(policy), setting), profile, drift)


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


async def measure(client: AsyncClient) -> Times:
    """Measure levels alone, and the reference level in batches, on all nodes at once."""
    alone = [await together(client, NODES, name) for name in LEVELS]
    rows = [await together(client, NODES * n, "whole") for n in range(2, SLOTS + 1)]
    status = await client.status()
    infos = [node_info_from_proto(node.hello) for node in status.nodes]
    costs = [
        own
        for info in infos
        for variant, own in zip(info.variants, info.costs, strict=True)
        if variant.name == VARIANT
    ]
    text_s, decode_s = (fmean(getattr(x, f) for x in costs) for f in ("text_encode_s", "decode_s"))
    return Times(tuple(alone), tuple(rows), text_s, decode_s)


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


def outcome_of(wanted: Sequence[Wanted], ended: Sequence[Ended], slo_s: float) -> Outcome:
    """Return how the real requests ended, in the form of a simulated run."""
    names = list(LEVELS)
    levels = [-1 if end.image is None else names.index(end.image.level) for end in ended]
    qualities = [quality for _, quality in LEVELS.values()]
    at, finish = np.array([w.at_s for w in wanted]), np.array([end.end_s for end in ended])
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
