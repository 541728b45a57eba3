"""Residency that follows the plan, beside residency that stays, in virtual time."""

from __future__ import annotations

import numpy as np
import pytest

from argus.control.policies import make
from argus.sim.engine import simulate
from argus.sim.outcome import Outcome, Status
from argus.sim.prompts import draw_prompts
from argus.sim.setting import Placing, SimSetting
from argus.sim.types import Batching, PromptTable, SimLevel, SimProfile, Trace, VariantTimes

LEVELS = (
    SimLevel("big-50", "big", 0, 4.2, 1.0, 50),
    SimLevel("big-35", "big", 15, 2.94, 0.97, 35),
    SimLevel("small-50", "small", 0, 1.2, 0.86, 50),
)
PROFILE = SimProfile(
    LEVELS, 12.6, Batching(), {"big": VariantTimes(load_s=20.0), "small": VariantTimes(load_s=8.0)}
)
NODES = 4
TURNS = ((0.5, 120.0), (2.8, 240.0))
"""Requests a second, seconds; the four nodes make 0.95 a second of the whole, 3.3 of the small."""


@pytest.fixture(scope="module")
def prompts() -> PromptTable:
    qualities = [level.quality for level in LEVELS]
    drawn = draw_prompts(500, seed=5, qualities=qualities, shares=(0.45, 0.25, 0.3))
    return PromptTable.numbered(drawn.similarity, drawn.quality, drawn.predicted)


def turned(prompts: PromptTable) -> Trace:
    rng = np.random.default_rng(21)
    times: list[float] = []
    start_s = 0.0
    for rate, span_s in TURNS:
        times += np.sort(start_s + rng.uniform(0, span_s, rng.poisson(rate * span_s))).tolist()
        start_s += span_s
    return Trace(np.array(times), prompts.ids[rng.integers(0, len(prompts), len(times))])


@pytest.fixture(scope="module")
def planned(prompts: PromptTable) -> Outcome:
    return run(prompts, Placing.PLANNED)


def run(prompts: PromptTable, placing: Placing, residents: int | None = 1) -> Outcome:
    setting = SimSetting(nodes=NODES, residents=residents, placing=placing)
    return simulate(turned(prompts), prompts, PROFILE, make("argus"), setting)


def quality(outcome: Outcome) -> float:
    return float(np.where(outcome.status == Status.ON_TIME, outcome.quality, 0.0).mean())


def violations(outcome: Outcome) -> float:
    return float((outcome.status != Status.ON_TIME).mean())


def test_when_demand_turns_the_plan_moves_variants_and_loses_less(
    prompts: PromptTable, planned: Outcome
) -> None:
    fixed = run(prompts, Placing.FIXED)
    by_rows = run(prompts, Placing.BY_ROWS)
    assert fixed.moves == 0
    assert 1 <= planned.moves <= 12
    assert violations(planned) < 0.7 * violations(fixed)
    assert quality(planned) > quality(fixed)
    assert quality(planned) > quality(by_rows)


def test_the_plan_of_residency_is_the_same_from_the_same_seed(
    prompts: PromptTable, planned: Outcome
) -> None:
    again = run(prompts, Placing.PLANNED)
    assert again.moves == planned.moves
    assert again.finish_s.tobytes() == planned.finish_s.tobytes()


def test_where_all_variants_fit_nothing_moves_and_nothing_changes(prompts: PromptTable) -> None:
    plain = run(prompts, Placing.BY_ROWS, residents=None)
    roomy = run(prompts, Placing.PLANNED, residents=2)
    assert roomy.moves == 0
    assert roomy.finish_s.tobytes() == plain.finish_s.tobytes()
    assert roomy.level.tobytes() == plain.level.tobytes()
