"""What `make bench-control` runs: a scenario, and policies that meet it one after the other."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from multiprocessing import get_context
from typing import Any

import control_measured as measured
import numpy as np
from numpy.typing import NDArray
from scipy import stats

from argus.control.policies import PolicyOptions, make
from argus.control.policies.argus import ArgusPolicy
from argus.control.policies.argus_options import ArgusOptions
from argus.control.policy import Policy
from argus.control.recalibration import Recalibration
from argus.sim.bound import clairvoyant_bound
from argus.sim.engine import simulate
from argus.sim.outcome import Outcome
from argus.sim.published import modelled_prompts, published_profile
from argus.sim.report import bound
from argus.sim.setting import SimSetting
from argus.sim.shapes import draw_arrivals
from argus.sim.types import PromptTable, SimProfile, Trace

BINS = 40
"""Of a trace's time, for plots."""
PUBLISHED_SPEEDUP = 1.65
SCORED, SCORED_SEED = 2_000, 4_000_001
"""Prompts that a predictor was checked on; no judged trace has any of them."""


class Predictions(enum.Enum):
    """What policies are told of prompts."""

    NOISY = "noisy"
    """The harmless level is found for 85 % of the prompts, else one near it."""
    PERFECT = "perfect"
    NOISE = "noise"
    """Each prompt has the prediction of another one."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Arrivals, prompts and the cluster; two equal ones are the same to the last bit.

    Attributes:
        shape: of the arrivals.
        load: mean arrivals relative to what the cluster makes at the best level, in full batches.
        seed: of arrivals, prompts and chance.
        requests: on average.
        setting: the cluster.
        profile: name in `PROFILES`.
    """

    shape: str
    load: float
    seed: int
    requests: int
    setting: SimSetting = SimSetting()
    profile: str = "published"

    @property
    def rate(self) -> float:
        """Arrivals a second on average."""
        profile = PROFILES[self.profile]()
        speed = sum(1 / self.setting.scale(node) for node in range(self.setting.nodes))
        return self.load * profile.capacity(1) * speed / batch_share(profile)

    @property
    def seconds(self) -> int:
        """Length of the trace."""
        return max(1, round(self.requests / self.rate))


@dataclass(frozen=True, slots=True)
class Contender:
    """A policy as it is set.

    Attributes:
        label: as tables name it.
        policy: its name.
        options: settings.
        predictions: what it is told.
        parts: of Argus's own policy, options by name; for ablations.
        recalibrated: whether Argus knows how wrong the predictor is, from scored prompts that are
            not judged on. Where predictions turn to noise it goes on with what it knew before.
    """

    label: str
    policy: str
    options: PolicyOptions = PolicyOptions()
    predictions: Predictions = Predictions.NOISY
    parts: Mapping[str, Any] = field(default_factory=dict)
    recalibrated: bool = True

    def make(self, profile: str) -> Policy:
        """Return a new policy for nodes of a profile."""
        options = self.options
        if self.policy == "argus" and self.recalibrated:
            options = replace(options, recalibrate=recalibration(profile, self.predictions))
        if self.parts:
            parts = {"shed": options.shed, **self.parts}
            return ArgusPolicy(ArgusOptions(**parts), options.recalibrate)
        return make(self.policy, options)


@dataclass(frozen=True, slots=True)
class Job:
    """A scenario with all that meet it.

    Attributes:
        scenario, contenders: see there.
        bounds: whether the bounds are worked out.
        curves: whether figures over time are kept.
    """

    scenario: Scenario
    contenders: tuple[Contender, ...]
    bounds: bool = True
    curves: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """What came of one contender in one scenario. Shares from 0 to 1."""

    scenario: Scenario
    contender: Contender
    requests: int
    violations: float
    quality: float
    quality_answered: float
    goodput: float
    per_minute: float
    decisions_per_s: float
    bound: float
    least_violations: float
    curve: tuple[tuple[float, float, float], ...] = ()
    """By bin of arrival time: arrivals a second, violations, quality of all; NaN without any."""


@cache
def published_batched() -> SimProfile:
    """Return the published ladder with steps that are batched as the bundled family's were."""
    return published_profile(measured.batching())


@cache
def published_fast() -> SimProfile:
    """Return the published ladder at the published rates, 1.65 times what its seconds give."""
    profile = published_profile()
    levels = tuple(
        replace(level, seconds=level.seconds / PUBLISHED_SPEEDUP) for level in profile.levels
    )
    return replace(profile, levels=levels)


MEASURED = "the bundled family, measured"
PROFILES: dict[str, Callable[[], SimProfile]] = {
    "published": cache(published_profile),
    "published, 1.65 times as fast": published_fast,
    "published, batched": published_batched,
    MEASURED: measured.profile,
}


def draw_prompts(profile: str, count: int, seed: int) -> PromptTable:
    """Return prompts for a profile's ladder."""
    if profile == MEASURED:
        return measured.prompts(count, seed)
    return modelled_prompts(PROFILES[profile](), count, seed)


@cache
def recalibration(profile: str, predictions: Predictions) -> Recalibration:
    """Return what is learned of a predictor from scored prompts of their own."""
    ladder = PROFILES[profile]()
    is_measured = profile == MEASURED
    scored = measured.scored() if is_measured else draw_prompts(profile, SCORED, SCORED_SEED)
    told = scored.perfect() if predictions is Predictions.PERFECT else scored
    names = [level.name for level in ladder.levels]
    return Recalibration(names, told.predicted, told.quality)


def run(job: Job) -> list[Row]:
    """Run a job's contenders."""
    scenario = job.scenario
    profile = PROFILES[scenario.profile]()
    arrivals = draw_arrivals(scenario.shape, scenario.rate, scenario.seconds, scenario.seed)
    prompts = draw_prompts(scenario.profile, max(1, len(arrivals)), scenario.seed + 500_000)
    trace = Trace(arrivals, prompts.ids[: len(arrivals)])
    best = bound(trace, prompts, profile, scenario.setting) if job.bounds else math.nan
    least = _least_violations(trace, profile, scenario.setting) if job.bounds else math.nan
    rows = []
    for contender in job.contenders:
        told = _told(prompts, contender.predictions, scenario.seed)
        outcome = simulate(
            trace,
            told,
            profile,
            contender.make(scenario.profile),
            scenario.setting,
            scenario.seed + 900_000,
        )
        rows.append(
            Row(
                scenario,
                contender,
                len(outcome),
                outcome.violation_share,
                outcome.quality_of_all,
                outcome.quality_of_answered,
                outcome.goodput,
                60 * int(outcome.answered.sum()) / scenario.seconds,
                outcome.decisions / outcome.policy_s,
                best,
                least,
                _curve(outcome, scenario.seconds) if job.curves else (),
            )
        )
    return rows


def run_all(jobs: Sequence[Job], processes: int, note: Callable[[int, int], None]) -> list[Row]:
    """Run jobs, some at once, and return their rows in the jobs' order."""
    rows: list[Row] = []
    if processes == 1:
        for done, job in enumerate(jobs, start=1):
            rows += run(job)
            note(done, len(jobs))
        return rows
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        for done, found in enumerate(pool.map(run, jobs), start=1):
            rows += found
            note(done, len(jobs))
    return rows


def mean_and_half(values: Iterable[float]) -> tuple[float, float]:
    """Return the mean and half the width of its 95 % interval (Student's t)."""
    found = np.array(list(values), float)
    if len(found) < 2:
        return float(found.mean()), math.nan
    half = stats.t.ppf(0.975, len(found) - 1) * found.std(ddof=1) / math.sqrt(len(found))
    return float(found.mean()), float(half)


def batch_share(profile: SimProfile) -> float:
    """Return the least device seconds of a row's step, relative to a step of it alone."""
    batching = profile.batching
    return min(
        scale * batching.row_lanes / lanes
        for lanes, scale in zip(batching.lanes, batching.seconds_scale, strict=True)
    )


def _least_violations(trace: Trace, profile: SimProfile, setting: SimSetting) -> float:
    """Return the share of requests that no schedule can make in time."""
    scales = [setting.scale(node) for node in range(setting.nodes)]
    fastest = min(scales)
    least_s = min(level.seconds for level in profile.levels) * fastest * batch_share(profile)
    slo_s = profile.slo_s if setting.slo_s is None else setting.slo_s
    found = clairvoyant_bound(
        trace.arrival_s,
        trace.arrival_s + slo_s,
        np.ones((len(trace), 1)),
        [least_s],
        sum(fastest / scale for scale in scales),
    )
    return 1.0 - found.mean_quality


def _told(prompts: PromptTable, predictions: Predictions, seed: int) -> PromptTable:
    match predictions:
        case Predictions.NOISY:
            return prompts
        case Predictions.PERFECT:
            return prompts.perfect()
        case Predictions.NOISE:
            order = np.random.default_rng(seed).permutation(len(prompts))
            return replace(prompts, predicted=prompts.predicted[order])


def _curve(outcome: Outcome, seconds: int) -> tuple[tuple[float, float, float], ...]:
    width = seconds / BINS
    at: NDArray[np.int_] = np.minimum(outcome.arrival_s / width, BINS - 1).astype(int)
    counts = np.bincount(at, minlength=BINS)
    on_time = np.bincount(at, weights=outcome.on_time, minlength=BINS)
    quality = np.where(outcome.on_time, outcome.quality, 0.0)
    total = np.bincount(at, weights=quality, minlength=BINS)
    many = np.where(counts, counts, np.nan)  # of no arrivals there is no share
    columns = (counts / width, 1 - on_time / many, total / many)
    return tuple(tuple(float(x) for x in row) for row in zip(*columns, strict=True))  # type: ignore[misc]
