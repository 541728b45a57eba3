"""States that come late or not at all, and variants that must be loaded first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from argus.control.policies.argus import ArgusPolicy
from argus.control.policy import Task
from argus.sim.engine import simulate
from argus.sim.node import Row
from argus.sim.outcome import Status
from argus.sim.published import modelled_prompts, published_profile
from argus.sim.residency import Residency
from argus.sim.setting import NodeLoss, Retrieval, SimSetting
from argus.sim.shapes import draw_arrivals
from argus.sim.types import Batching, SimLevel, SimProfile, Trace, VariantTimes
from tests.unit.sim.simple import BestOnTime, FixedLevel, same_prompts, trace_of

PROFILE = published_profile()
PROMPTS = same_prompts(PROFILE)


def test_a_fetch_comes_before_the_row_takes_its_slot() -> None:
    setting = SimSetting(nodes=1, retrieval=Retrieval(seconds=0.5))
    outcome = simulate(trace_of([0.0, 0.0]), PROMPTS, PROFILE, FixedLevel(5), setting)
    assert outcome.start_s.tolist() == pytest.approx([0.5, 3.1])
    assert outcome.finish_s.tolist() == pytest.approx([2.6, 5.2])
    ahead = replace(setting, lookahead=1)
    outcome = simulate(trace_of([0.0, 0.0]), PROMPTS, PROFILE, FixedLevel(5), ahead)
    assert outcome.finish_s.tolist() == pytest.approx([2.6, 4.7]), "fetched while the other runs"
    whole = simulate(trace_of([0.0]), PROMPTS, PROFILE, FixedLevel(0), setting)
    assert whole.start_s.tolist() == [0.0], "nothing is fetched for a row that skips nothing"


def test_a_row_without_its_state_runs_all_its_steps_and_is_worth_that() -> None:
    setting = SimSetting(nodes=1, retrieval=Retrieval(0.2, outages=((5.0, 9.0),), timeout_s=1.0))
    outcome = simulate(trace_of([0.0, 5.0, 20.0]), PROMPTS, PROFILE, FixedLevel(5), setting)
    assert outcome.level.tolist() == [5, 0, 5]
    assert outcome.quality.tolist() == [0.9152, 1.0, 0.9152]
    assert outcome.start_s.tolist() == pytest.approx([0.2, 6.0, 20.2])
    assert (outcome.finish_s - outcome.start_s).tolist() == pytest.approx([2.1, 4.2, 2.1])


def test_misses_come_as_often_as_was_asked() -> None:
    setting = SimSetting(nodes=50, retrieval=Retrieval(miss=0.3))
    trace = trace_of(np.arange(3000) * 0.2)
    outcome = simulate(trace, PROMPTS, PROFILE, FixedLevel(3), setting, seed=4)
    assert np.mean(outcome.level == 0) == pytest.approx(0.3, abs=4 * 0.0084)
    assert set(outcome.level.tolist()) == {0, 3}


def test_expected_seconds_of_a_fetch_are_learned() -> None:
    seen: list[float] = []

    class Watching(FixedLevel):
        def admit(self, task, fleet, now_s):  # type: ignore[no-untyped-def]
            seen.append(task.offers[5].fetch_s)
            return super().admit(task, fleet, now_s)

    setting = SimSetting(nodes=8, retrieval=Retrieval(seconds=0.4, spread=0.5))
    simulate(trace_of(np.arange(500) * 1.0), PROMPTS, PROFILE, Watching(5), setting)
    assert seen[0] == 0.4
    # 0.4·exp(1.2816·σ − σ²/2), σ² = ln 1.25: the 90 % quantile that live offers state, too.
    assert seen[-1] == pytest.approx(0.4 * 1.639, rel=0.15)


def test_a_lost_node_takes_the_fetches_for_it_along() -> None:
    setting = SimSetting(nodes=2, retrieval=Retrieval(seconds=1.0), losses=(NodeLoss(0, 0.5),))
    outcome = simulate(trace_of([0.0]), PROMPTS, PROFILE, FixedLevel(5), setting)
    assert outcome.node.tolist() == [1]
    assert outcome.start_s.tolist() == [1.5]


TWO = SimProfile(
    levels=(
        SimLevel("large", "large", 0, 4.0, 1.0, 50),
        SimLevel("small", "small", 0, 1.0, 0.9, 50),
    ),
    slo_s=100.0,
    variants={"large": VariantTimes(load_s=10.0), "small": VariantTimes(load_s=5.0)},
)


def test_a_row_waits_for_the_load_of_its_variant() -> None:
    outcome = simulate(
        trace_of([0.0, 20.0]),
        same_prompts(TWO),
        TWO,
        FixedLevel(1),
        SimSetting(nodes=1, residents=1),
    )
    assert outcome.start_s.tolist() == [5.0, 20.0], "the second finds it there"
    both = simulate(
        trace_of([0.0]), same_prompts(TWO), TWO, FixedLevel(1), SimSetting(nodes=1, residents=2)
    )
    assert both.start_s.tolist() == [0.0]


def row(index: int, variant: str, due_s: float = 50.0) -> Row:
    return Row(index, Task(str(index), (), 0.0), 0, variant, 2, 1.0, 50, due_s, 1.0)


def test_a_variant_in_use_goes_on_while_another_is_loaded_and_none_starves() -> None:
    residency = Residency(2, {"a": 1.0, "b": 1.0, "c": 1.0})
    a, b, c = row(0, "a"), row(1, "b"), row(2, "c")
    assert residency.take(a, 0.0) == [a]
    assert residency.take(b, 0.0) == [b]
    assert residency.take(c, 1.0) == []
    assert residency.next_s == 4.0, "each may stay four times as long as a load takes"
    assert residency.advance(4.0) == []
    again = row(3, "a")
    assert residency.take(again, 4.5) == [], "the one that came first makes room"
    residency.ended(a, 5.0)
    assert residency.next_s == 6.0
    assert residency.advance(6.0) == [c]
    residency.ended(b, 6.5)
    assert residency.advance(residency.next_s) == [again]


def test_mixed_rows_on_nodes_with_room_for_one_variant_all_end() -> None:
    class Alternating(BestOnTime):
        def act(self, task, nodes, now_s):  # type: ignore[no-untyped-def]
            self.level = task.order % 2
            return FixedLevel.act(self, task, nodes, now_s)

    profile = replace(TWO, batching=Batching((2, 8), (1.0, 2.0)))
    rng = np.random.default_rng(1)
    trace = trace_of(np.cumsum(rng.exponential(3.0, 400)))
    setting = SimSetting(nodes=2, residents=1, lookahead=4, slo_s=1e5)
    outcome = simulate(trace, same_prompts(profile), profile, Alternating(), setting)
    assert (outcome.status == Status.ON_TIME).all()
    assert set(outcome.level.tolist()) == {0, 1}


def test_a_policy_that_notices_an_outage_loses_far_less() -> None:
    profile = published_profile()
    arrivals = draw_arrivals("poisson", 1.0 * 8 / 4.2, 400, 5)
    prompts = modelled_prompts(profile, len(arrivals), 6)
    trace = Trace(arrivals, prompts.ids)
    setting = SimSetting(retrieval=Retrieval(0.05, 0.5, outages=((100.0, 300.0),)))

    class Blind(ArgusPolicy):
        def fetched(self, task: Task, hit: bool) -> None:
            """Learn nothing."""

    seeing, blind = (
        simulate(trace, prompts, profile, policy, setting) for policy in (ArgusPolicy(), Blind())
    )
    assert seeing.violation_share < 0.5 * blind.violation_share
    assert seeing.quality_of_all > blind.quality_of_all + 0.05
    late = seeing.arrival_s > 320.0
    assert (seeing.level[late] > 0).any(), "states are used again"
