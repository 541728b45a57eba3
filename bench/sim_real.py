"""The same traces on a real cluster of CPU nodes and in the simulator, side by side.

Both sides begin each trace knowing nothing of the traffic: the real one has a new coordinator,
whose margins, rates and prices have heard of no request. What steps cost is what the nodes measured
at their start, times how much slower they were under the traces before and after: a machine that
nodes share with coordinator and clients is slower the more requests come.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

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
from argus.types import StepCosts, VariantCosts

NODES = 2
SLOTS = 4
STEPS = 20
"""Of the reference level."""
VARIANT = "scenes-base"
LEVELS = {"whole": (1.0, 1.0), "half": (0.5, 0.9), "fifth": (0.2, 0.75)}
"""Share of the steps, and quality: set, not measured; both sides count with the same ones. No
predictor knows these levels, so that both go by them."""
PROMPT = "a red circle left of a blue square"
WARM_ROUNDS = 4
"""Pictures for every place in the cluster before the first trace."""
LOOKAHEAD = 2
"""As the coordinator has it."""
LOOK_S = 0.25
"""Between two questions for how slow nodes are."""
LOOSE = 3.0
"""Deadline of a request relative to a reference row alone, as in the published setting."""


def full_s(costs: VariantCosts) -> float:
    """Return the seconds of a reference row in full batches, each row's text and pixels between."""
    beside_s = costs.text_encode_s + costs.decode_s
    return STEPS * costs.steps.step_s(2 * SLOTS) + SLOTS * beside_s


def alone_s(costs: VariantCosts) -> float:
    """Return the seconds of a reference row with a node to itself."""
    return STEPS * costs.steps.step_s(2) + costs.text_encode_s + costs.decode_s


def slower(costs: VariantCosts, factor: float) -> VariantCosts:
    """Return what everything costs where it takes so much longer."""
    steps = StepCosts(costs.steps.lanes, tuple(factor * s for s in costs.steps.seconds))
    return VariantCosts(steps, factor * costs.text_encode_s, factor * costs.decode_s)


def mean_costs(costs: Sequence[VariantCosts]) -> VariantCosts:
    """Return the mean over nodes that measured the same lanes."""
    lanes = costs[0].steps.lanes
    seconds = tuple(fmean(each.steps.step_s(n) for each in costs) for n in lanes)
    return VariantCosts(
        StepCosts(lanes, seconds),
        fmean(each.text_encode_s for each in costs),
        fmean(each.decode_s for each in costs),
    )


def profile_of(costs: VariantCosts, slo_s: float) -> SimProfile:
    """Return what the simulator is given: rows whose steps, text and pixels cost that much."""
    lanes = tuple(2 * rows for rows in range(1, SLOTS + 1))
    one_s, beside_s = costs.steps.step_s(2), costs.text_encode_s + costs.decode_s
    levels = []
    for name, (share, quality) in LEVELS.items():
        forwards = max(1, round(STEPS * share))
        seconds = forwards * one_s + beside_s
        levels.append(SimLevel(name, VARIANT, 0, seconds, quality, forwards))
    scale = tuple(costs.steps.step_s(n) / one_s for n in lanes)
    variants = {VARIANT: VariantTimes(costs.text_encode_s, costs.decode_s)}
    return SimProfile(tuple(levels), slo_s, Batching(lanes, scale), variants=variants)


@dataclass(frozen=True, slots=True)
class Real:
    """One trace on the real cluster.

    Attributes:
        wanted, ended: its requests.
        slowness: of the nodes' steps while it ran, relative to their start: the mean over the time
            and the nodes.
    """

    wanted: Sequence[Wanted]
    ended: Sequence[Ended]
    slowness: float


@dataclass(frozen=True, slots=True)
class Pair:
    """One trace on both sides.

    Attributes:
        real, simulated: every arrival's end.
        profile: what the simulator was given.
        slowness: of the trace before it, its own, of the one after it. The profile is between
            the first and the last.
    """

    real: Outcome
    simulated: Outcome
    profile: SimProfile
    slowness: tuple[float, float, float]

    @property
    def drift(self) -> float:
        """How unsteady the machine was, at least 1: the slowest of the three by the fastest."""
        return max(self.slowness) / min(self.slowness)

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
        traces: how many are to count. One more before them and one after tell how fast nodes are.
        most: that are run at most, these two not counted.
        steady: a trace counts where its steps, those before it and those after it took at most so
            many times what the fastest of them took. Whether the sides agree has no part in it.
    """
    config = write_config(folder, write_levels(folder / "levels.json"), SLOTS)
    run: list[Real] = []
    pairs: list[Pair] = []
    async with ServingCluster(NODES, config) as cluster:
        async with cluster.coordinator(policy) as client:
            await until_idle()
            await _warm_up(client)
            costs, slowness = await _costs(client), await _slowness(client)
        now = slower(costs, slowness)
        slo_s = LOOSE * alone_s(now)
        rate = load * NODES * SLOTS / full_s(now)
        for seed in range(most + 2):
            arrivals = poisson(rate, seconds * alone_s(now), seed)
            wanted = [Wanted(at_s, PROMPT, i) for i, at_s in enumerate(arrivals)]
            async with cluster.coordinator(policy) as client:
                await until_idle()
                run.append(await _replay(client, wanted, slo_s))
            if len(run) > 2:
                pair = _pair((run[-3], run[-2], run[-1]), costs, slo_s, policy)
                if pair.drift < steady:
                    pairs.append(pair)
            if len(pairs) == traces:
                break
    return Compared(tuple(pairs))


async def _warm_up(client: AsyncClient) -> None:
    """Keep all places of the cluster busy: what is slow the first time comes before the traces."""

    async def chain(first: int) -> None:
        for i in range(WARM_ROUNDS):
            seed = first * WARM_ROUNDS + i
            await client.generate(PROMPT, level="whole", steps=STEPS, seed=seed)

    await asyncio.gather(*(chain(i) for i in range(NODES * SLOTS)))


async def _costs(client: AsyncClient) -> VariantCosts:
    """Return what the nodes measured at their start."""
    infos = [node_info_from_proto(node.hello) for node in (await client.status()).nodes]
    return mean_costs(
        [
            costs
            for info in infos
            for variant, costs in zip(info.variants, info.costs, strict=True)
            if variant.name == VARIANT
        ]
    )


async def _slowness(client: AsyncClient) -> float:
    """Return how slow steps are now, the mean over the nodes."""
    return fmean(node.heartbeat.slowness for node in (await client.status()).nodes)


async def _replay(client: AsyncClient, wanted: Sequence[Wanted], slo_s: float) -> Real:
    """Run a trace on the real cluster and watch how slow its nodes are."""
    looks: list[float] = []

    async def look() -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            looks.append(await _slowness(client))

    watch = asyncio.ensure_future(look())
    try:
        ended = await replay(client, wanted, slo_s, STEPS)
    finally:
        watch.cancel()
        await asyncio.wait({watch})
    if not watch.cancelled():
        watch.result()  # it failed: how slow nodes were is not known
    return Real(wanted, ended, fmean(looks))


def _pair(three: tuple[Real, Real, Real], costs: VariantCosts, slo_s: float, policy: str) -> Pair:
    """Simulate what was sent, at the moments at which it was, on nodes between two traces."""
    before, trace, after = three
    real = outcome_of(trace.wanted, trace.ended, slo_s)
    profile = profile_of(slower(costs, (before.slowness + after.slowness) / 2), slo_s)
    sent = Trace(np.sort([end.sent_s for end in trace.ended]), real.prompt_id)
    quality = np.array([[quality for _, quality in LEVELS.values()]])
    prompts = PromptTable(np.array(["p"]), np.array([0.0]), quality, quality)
    setting = SimSetting(nodes=NODES, lookahead=LOOKAHEAD, drop_late=True)
    simulated = simulate(sent, prompts, profile, make(policy), setting)
    slowness = (before.slowness, trace.slowness, after.slowness)
    return Pair(real, simulated, profile, slowness)


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
