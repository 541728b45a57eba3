from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from argus.control.fleet import Fleet
from argus.control.policy import Task
from argus.control.router import Decision
from argus.errors import InternalError, InvalidArgumentError, OverloadedError
from argus.sim.engine import simulate
from argus.sim.outcome import Outcome, Status
from argus.sim.published import modelled_prompts, published_profile
from argus.sim.setting import NodeLoss, SimSetting
from argus.sim.types import PromptTable, Trace
from tests.unit.sim.checking import check, queue_by_hand, waiting_of_mdc
from tests.unit.sim.simple import BestOnTime, FixedLevel, same_prompts, trace_of

PROFILE = published_profile()
ONE = SimSetting(nodes=1)


def poisson(count: int, rate: float, seed: int, prompts: PromptTable) -> Trace:
    rng = np.random.default_rng(seed)
    ids = prompts.ids[rng.integers(0, len(prompts), count)]
    return Trace(np.cumsum(rng.exponential(1 / rate, count)), ids)


def columns(outcome: Outcome) -> list[object]:
    numbers = (outcome.start_s, outcome.finish_s, outcome.quality)
    wholes = (outcome.level, outcome.node, outcome.status)
    return [*(np.nan_to_num(x, nan=-1).tolist() for x in numbers), *(x.tolist() for x in wholes)]


def test_three_requests_on_one_node_go_one_after_the_other() -> None:
    prompts = same_prompts(PROFILE)
    outcome = simulate(trace_of([1.0, 2.0, 30.0]), prompts, PROFILE, FixedLevel(), ONE)
    assert outcome.start_s.tolist() == pytest.approx([1.0, 5.2, 30.0])
    assert outcome.finish_s.tolist() == pytest.approx([5.2, 9.4, 34.2])
    assert outcome.deadline_s.tolist() == pytest.approx([13.6, 14.6, 42.6])
    assert outcome.status.tolist() == [Status.ON_TIME] * 3
    assert outcome.goodput == pytest.approx(3 / 33.2)


def test_a_late_picture_keeps_its_quality_and_counts_as_none() -> None:
    prompts = same_prompts(PROFILE)
    outcome = simulate(trace_of([0.0] * 4), prompts, PROFILE, FixedLevel(5), ONE)
    assert outcome.finish_s.tolist() == pytest.approx([2.1, 4.2, 6.3, 8.4])
    late = simulate(trace_of([0.0] * 4), prompts, PROFILE, FixedLevel(5), replace(ONE, slo_s=7.0))
    assert late.status.tolist() == [Status.ON_TIME] * 3 + [Status.LATE]
    assert late.quality.tolist() == [0.9152] * 4
    assert late.quality_of_all == pytest.approx(0.9152 * 3 / 4)
    assert late.quality_of_answered == pytest.approx(0.9152)
    assert late.violations == 1


def test_a_row_ends_at_the_first_step_after_its_deadline_where_nodes_drop_late_ones() -> None:
    setting = SimSetting(nodes=1, slo_s=5.0, drop_late=True)
    trace = trace_of([0.0, 0.1, 0.2])
    outcome = simulate(trace, same_prompts(PROFILE), PROFILE, FixedLevel(), setting)
    # The second may run from 4.2 to 5.1, which falls into its eleventh step, the third not at all.
    assert outcome.status.tolist() == [Status.ON_TIME, Status.DROPPED, Status.DROPPED]
    freed = simulate(trace_of([0.0, 0.1, 0.9]), same_prompts(PROFILE), PROFILE, FixedLevel(5), ONE)
    assert freed.start_s.tolist() == pytest.approx([0.0, 2.1, 4.2])


def test_equal_times_end_before_they_arrive() -> None:
    outcome = simulate(trace_of([0.0, 4.2]), same_prompts(PROFILE), PROFILE, FixedLevel(), ONE)
    assert outcome.start_s.tolist() == [0.0, 4.2]


@pytest.mark.parametrize("nodes", [1, 3, 8])
def test_a_fixed_level_is_a_queue_that_can_be_worked_out_by_hand(nodes: int) -> None:
    prompts = same_prompts(PROFILE)
    rng = np.random.default_rng(nodes)
    times = np.cumsum(rng.exponential(4.2 / nodes / 0.95, 2000))
    outcome = simulate(trace_of(times), prompts, PROFILE, FixedLevel(), SimSetting(nodes=nodes))
    expected = queue_by_hand(times.tolist(), [4.2] * 2000, nodes)
    np.testing.assert_allclose(outcome.finish_s, expected, rtol=0, atol=1e-6)


def test_slower_nodes_and_jitter_are_in_the_service_times() -> None:
    prompts = same_prompts(PROFILE)
    setting = SimSetting(nodes=2, seconds_scales=(1.0, 2.0), jitter=0.1)
    trace = trace_of(np.arange(4000) * 3.0)
    outcome = simulate(trace, prompts, PROFILE, FixedLevel(), setting, seed=3)
    took = outcome.finish_s - outcome.start_s
    for node, mean in ((0, 4.2), (1, 8.4)):
        own = took[outcome.node == node]
        error = mean * 0.1 / math.sqrt(len(own))
        assert own.mean() == pytest.approx(mean, abs=4 * error)
        assert own.std() == pytest.approx(0.1 * mean, rel=0.1)


@pytest.mark.parametrize(("nodes", "load"), [(1, 0.7), (8, 0.9)])
def test_waiting_times_are_those_of_queueing_theory(nodes: int, load: float) -> None:
    prompts = same_prompts(PROFILE)
    rate = load * nodes / 4.2
    waits = []
    for seed in range(12):
        trace = poisson(3000, rate, seed, prompts)
        outcome = simulate(trace, prompts, PROFILE, FixedLevel(), SimSetting(nodes=nodes))
        waits.append((outcome.start_s - outcome.arrival_s)[500:].mean())
    error = float(np.std(waits, ddof=1)) / math.sqrt(len(waits))
    assert np.mean(waits) == pytest.approx(waiting_of_mdc(rate, 4.2, nodes), abs=3.5 * error)
    if nodes == 1:  # Pollaczek and Khinchine, as a check of the check
        closed = load * 4.2 / (2 * (1 - load))
        assert waiting_of_mdc(rate, 4.2, nodes) == pytest.approx(closed, rel=1e-4)


@pytest.mark.parametrize("lookahead", [0, 2])
@pytest.mark.parametrize("load", [0.7, 1.3, 2.2])
def test_schedules_keep_what_any_schedule_must(load: float, lookahead: int) -> None:
    prompts = modelled_prompts(PROFILE, 500, seed=1)
    trace = poisson(3000, load * PROFILE.capacity(8), 7, prompts)
    setting = SimSetting(lookahead=lookahead)
    outcome = simulate(trace, prompts, PROFILE, BestOnTime(), setting)
    check(outcome, trace, prompts, PROFILE, PROFILE.slo_s)
    assert (outcome.violations > 0) == (load > 1)


def test_the_same_seed_gives_the_same_run_and_another_one_another() -> None:
    prompts = modelled_prompts(PROFILE, 500, seed=1)
    trace = poisson(2000, 2.0, 7, prompts)
    setting = SimSetting(jitter=0.1, losses=(NodeLoss(3, 100.0, 200.0),))

    def run(seed: int) -> list[object]:
        return columns(simulate(trace, prompts, PROFILE, BestOnTime(), setting, seed))

    assert run(5) == run(5)
    assert run(5) != run(6)


def test_chance_is_the_same_under_every_policy() -> None:
    prompts = same_prompts(PROFILE)
    trace = trace_of(np.arange(200) * 1.0)
    setting = SimSetting(jitter=0.2)
    took = [
        outcome.finish_s - outcome.start_s
        for level in (0, 5)
        for outcome in [simulate(trace, prompts, PROFILE, FixedLevel(level), setting, seed=9)]
    ]
    np.testing.assert_allclose(took[0] / 4.2, took[1] / 2.1, rtol=1e-9)


def test_a_lost_node_loses_no_request() -> None:
    prompts = same_prompts(PROFILE)
    # Two nodes, two rows at 0; node 0 dies at 1 and is back, empty, at 3.
    setting = SimSetting(nodes=2, losses=(NodeLoss(0, 1.0, back_s=3.0),))
    outcome = simulate(trace_of([0.0, 0.0]), prompts, PROFILE, FixedLevel(), setting)
    assert outcome.start_s.tolist() == [3.0, 0.0]
    assert outcome.finish_s.tolist() == pytest.approx([7.2, 4.2])
    assert outcome.node.tolist() == [0, 1]


def test_rows_sent_to_a_dead_node_before_anyone_noticed_are_made_elsewhere() -> None:
    setting = SimSetting(nodes=2, losses=(NodeLoss(0, 1.0, noticed_s=2.0),))
    outcome = simulate(
        trace_of([0.0, 1.5, 1.5]), same_prompts(PROFILE), PROFILE, FixedLevel(), setting
    )
    assert outcome.node.tolist() == [1, 1, 1]
    assert outcome.start_s.tolist() == pytest.approx([5.7, 1.5, 9.9])


@pytest.mark.parametrize("noticed_s", [0.0, 1.5])
def test_losses_at_peak_end_every_request_once(noticed_s: float) -> None:
    prompts = same_prompts(PROFILE)
    trace = poisson(1500, 1.8, 11, prompts)
    losses = tuple(
        NodeLoss(node, 60.0 * (1 + node), 60.0 * (1 + node) + 45.0, noticed_s) for node in range(8)
    )
    setting = SimSetting(losses=losses, slo_s=1e4)
    outcome = simulate(trace, prompts, PROFILE, FixedLevel(), setting)
    check(outcome, trace, prompts, PROFILE, 1e4)
    assert (outcome.status == Status.ON_TIME).all()
    for node, loss in enumerate(losses):
        own = outcome.node == node
        alive = (outcome.finish_s <= loss.at_s) | (outcome.start_s >= loss.back_s)
        assert alive[own].all()


def test_what_waits_for_nodes_that_never_come_back_is_dropped_in_the_end() -> None:
    setting = SimSetting(nodes=1, losses=(NodeLoss(0, 1.0),))
    outcome = simulate(
        trace_of([0.0, 0.5, 2.0]), same_prompts(PROFILE), PROFILE, FixedLevel(), setting
    )
    assert outcome.status.tolist() == [Status.DROPPED, Status.DROPPED, Status.REFUSED]


def test_a_refusal_and_a_surrender_are_told_apart() -> None:
    class Refusing(BestOnTime):
        def admit(self, task: Task, fleet: Fleet, now_s: float) -> Decision:
            if now_s > 50:
                raise OverloadedError("enough", 1.0)
            return super().admit(task, fleet, now_s)

    outcome = simulate(
        trace_of([0.0] * 8 + [60.0]), same_prompts(PROFILE), PROFILE, Refusing(), ONE
    )
    counts = [int((outcome.status == status).sum()) for status in Status]
    # With 12.6 s: 4.2, 4.2 and 4.2, or fewer at lower levels; then there is no time left.
    assert counts == [3, 0, 1, 5]


def test_a_policy_that_breaks_its_contract_is_found_out() -> None:
    class Greedy(FixedLevel):
        def dispatch(self, fleet, now_s):  # type: ignore[no-untyped-def]
            for _, _, _, task in self.line:
                yield self.act(task, list(fleet), now_s)
            self.line = []

    with pytest.raises(InternalError, match="full"):
        simulate(trace_of([0.0, 0.0]), same_prompts(PROFILE), PROFILE, Greedy(), ONE)


def test_a_policy_that_forgets_a_request_is_found_out() -> None:
    class Forgetful(FixedLevel):
        def admit(self, task: Task, fleet: Fleet, now_s: float) -> Decision:
            return Decision(task.offers[0], "node-000", 0.0)

        def withdraw(self, task: Task) -> None:
            pass

    outcome = simulate(trace_of([0.0]), same_prompts(PROFILE), PROFILE, Forgetful(), ONE)
    assert outcome.status.tolist() == [Status.DROPPED]


def test_inputs_that_do_not_fit_together_are_refused() -> None:
    prompts = same_prompts(PROFILE)
    trace = Trace(np.array([0.0, 1.0]), np.array(["p0", "x"]))
    with pytest.raises(InvalidArgumentError, match="arrival 1: prompt 'x'"):
        simulate(trace, prompts, PROFILE, FixedLevel(), ONE)
    narrow = PromptTable(
        prompts.ids, prompts.similarity, prompts.quality[:, :2], prompts.predicted[:, :2]
    )
    with pytest.raises(InvalidArgumentError, match="6 levels"):
        simulate(trace_of([0.0]), narrow, PROFILE, FixedLevel(), ONE)
