"""Figures of a run, worked out by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from argus.sim.engine import simulate
from argus.sim.outcome import Outcome, Status
from argus.sim.published import published_profile
from argus.sim.report import bound, describe, summary
from argus.sim.setting import SimSetting
from argus.sim.types import Batching
from tests.unit.sim.simple import BestOnTime, FixedLevel, same_prompts, trace_of

PROFILE = published_profile()


def outcome_of(status: list[Status], quality: list[float], finish_s: list[float]) -> Outcome:
    n = len(status)
    made = [s in (Status.ON_TIME, Status.LATE) for s in status]
    return Outcome(
        prompt_id=np.array(["p"] * n),
        arrival_s=np.arange(n, dtype=float),
        start_s=np.array(finish_s) - 1,
        finish_s=np.array(finish_s),
        level=np.array([0 if m else -1 for m in made]),
        node=np.array([0 if m else -1 for m in made]),
        deadline_s=np.arange(n) + 5.0,
        quality=np.array(quality),
        status=np.array([int(s) for s in status]),
        decisions=10,
        policy_s=0.5,
        wall_s=2.0,
    )


def test_figures_are_those_that_a_hand_would_find() -> None:
    figures = summary(
        outcome_of(
            [Status.ON_TIME, Status.LATE, Status.REFUSED, Status.DROPPED, Status.ON_TIME],
            [1.0, 0.9, 0.0, 0.0, 0.8],
            [2.0, 9.0, math.nan, math.nan, 8.0],
        ),
        PROFILE,
    )
    assert (figures["offered"], figures["answered"], figures["on_time"]) == (5, 3, 2)
    assert (figures["late"], figures["refused"], figures["dropped"]) == (1, 1, 1)
    assert (figures["violations"], figures["violation_share"]) == (3, 0.6)
    assert figures["mean_quality_all"] == pytest.approx(1.8 / 5)
    assert figures["mean_quality_answered"] == pytest.approx(2.7 / 3)
    assert figures["goodput_per_s"] == pytest.approx(2 / 8)
    assert figures["levels"]["skip-0"] == 3
    assert figures["decisions_per_s"] == pytest.approx(20)
    assert figures["requests_per_wall_minute"] == pytest.approx(150)
    assert json.loads(json.dumps(figures)) == figures
    assert any("3 (60.00 %)" in line for line in describe(figures))


def test_figures_that_do_not_exist_are_null() -> None:
    figures = summary(outcome_of([Status.REFUSED], [0.0], [math.nan]), PROFILE)
    assert figures["mean_quality_answered"] is None
    assert figures["goodput_per_s"] is None
    json.dumps(figures, allow_nan=False)
    assert describe(figures)


@pytest.mark.parametrize("scales", [(), (1.0, 2.0)])
def test_the_bound_is_above_what_policies_reach_and_met_without_load(
    scales: tuple[float, ...],
) -> None:
    setting = SimSetting(nodes=2, seconds_scales=scales)
    prompts = same_prompts(PROFILE)
    rng = np.random.default_rng(1)
    for load in (0.5, 1.2, 2.5):
        trace = trace_of(np.cumsum(rng.exponential(4.2 / 2 / load, 150)))
        limit = bound(trace, prompts, PROFILE, setting)
        for policy in (FixedLevel(), FixedLevel(5), BestOnTime()):
            assert simulate(trace, prompts, PROFILE, policy, setting).quality_of_all <= limit
    rare = trace_of(np.arange(5) * 30.0)
    assert bound(rare, prompts, PROFILE, setting) == pytest.approx(1.0, abs=1e-6)


def test_the_bound_counts_what_batches_save() -> None:
    batched = published_profile(Batching((2, 8), (1.0, 2.0)))
    trace = trace_of(np.arange(100) * 1.05)
    prompts = same_prompts(PROFILE)
    alone = bound(trace, prompts, PROFILE, SimSetting(nodes=1))
    together = bound(trace, prompts, batched, SimSetting(nodes=1))
    assert alone < 0.6
    assert together > 0.9
