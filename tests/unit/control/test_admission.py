"""Who is accepted, at which level, and what those are told who are not."""

from __future__ import annotations

import math

import pytest

from argus.clock import ManualClock
from argus.control.admission import SHORTEST_RETRY_S, room_s, turn_away
from argus.control.policies.argus import ArgusPolicy
from argus.errors import DeadlineError, OverloadedError, UnavailableError
from tests.unit.control.build import COSTS, node, row
from tests.unit.control.deciding import BOTH, LADDER, decide, fleet_of, start_all, task


def test_an_idle_cluster_admits_at_the_reference() -> None:
    decision = decide(LADDER, [node()], None)
    assert decision is not None
    assert decision.offer is LADDER[0]


def test_a_full_house_refuses_with_the_time_of_the_next_departure() -> None:
    model = node()
    model.add("a", row(10))
    model.add("b", row(50))
    with pytest.raises(OverloadedError) as caught:
        turn_away(task(LADDER, None), [model], 0.0, in_flight=2)
    assert caught.value.retry_after_s == pytest.approx(2 * 0.05 + 10 * 0.18 + 0.2)
    assert caught.value.retry_after_s == room_s([model, node("idle")])


def test_nobody_is_told_to_come_back_at_once() -> None:
    with pytest.raises(OverloadedError) as caught:
        turn_away(task(LADDER, None), [node()], 0.0, in_flight=2)
    assert caught.value.retry_after_s == SHORTEST_RETRY_S
    model = node(slots=1)
    model.add("a", row(10), due_s=1.0)
    late_s = model.finish_s(LADDER[0].row) - 0.01
    with pytest.raises(OverloadedError) as caught:
        ArgusPolicy().admit(task(LADDER[:1], late_s), fleet_of([model]), 0.0)
    assert caught.value.retry_after_s == SHORTEST_RETRY_S


def test_load_degrades_before_it_refuses() -> None:
    fleet, policy = fleet_of([node(costs=BOTH)]), ArgusPolicy()
    qualities: list[float] = []

    def offer_more_work() -> None:
        for _ in range(100):
            policy.admit(task(LADDER, 8.0), fleet, 0.0)
            (start,) = start_all(policy, fleet)
            qualities.append(start.decision.predicted_quality)

    with pytest.raises(OverloadedError) as caught:
        offer_more_work()
    assert qualities[0] == 1.0
    assert len(set(qualities)) > 1
    assert qualities == sorted(qualities, reverse=True)
    assert caught.value.retry_after_s > 0


def test_a_refusal_says_when_a_retry_would_be_on_time() -> None:
    """Played forward without new work, a retry at the promised moment is admitted."""
    clock = ManualClock()
    model = node(slots=1)
    for i in range(3):
        model.add(str(i), row(50), due_s=8.0)
    with pytest.raises(OverloadedError) as caught:
        ArgusPolicy().admit(task(LADDER[:1], 8.0), fleet_of([model]), 0.0)
    clock.advance(caught.value.retry_after_s)
    steps_done = int((clock.now() - 2 * (0.05 + 0.2) - 0.05) / 0.12) + 1
    for i in range(3):
        here = min(50, max(0, steps_done - 50 * i))
        if here == 50:
            model.remove(str(i))
        elif here:
            model.progress(str(i), here)
    decision = decide(LADDER[:1], [model], 8.0)
    assert decision is not None
    assert decision.predicted_finish_s <= 8.0


def test_what_even_an_idle_cluster_cannot_do_in_time_is_not_worth_a_retry() -> None:
    for refuse in (
        lambda: ArgusPolicy().admit(task(LADDER, 0.5), fleet_of([node(costs=BOTH)]), 0.0),
        lambda: turn_away(task(LADDER, 0.5), [node(costs=BOTH)], 0.0, in_flight=100),
    ):
        with pytest.raises(DeadlineError, match="idle cluster"):
            refuse()


def test_no_node_is_unavailable_even_when_the_queue_is_full() -> None:
    with pytest.raises(UnavailableError):
        turn_away(task(LADDER, None), [], 0.0, in_flight=100)
    with pytest.raises(UnavailableError):
        ArgusPolicy().admit(task((), None), fleet_of([node()]), 0.0)


def policy_behind_nobody(remaining_s: float) -> float:
    """Return the predicted finish of a request that is due before all who wait."""
    policy, fleet = ArgusPolicy(), fleet_of([node()], limit=0)
    for _ in range(10):
        policy.admit(task(LADDER[:1], None), fleet, 0.0)
    return policy.admit(task(LADDER[:1], remaining_s), fleet, 0.0).predicted_finish_s


def test_the_queue_ahead_counts_against_the_deadline() -> None:
    def behind_ten(remaining_s: float) -> float:
        policy, fleet = ArgusPolicy(), fleet_of([node()], limit=0)
        for _ in range(10):
            policy.admit(task(LADDER[:1], None, now_s=-60.0), fleet, -60.0)
        return policy.admit(task(LADDER[:1], remaining_s), fleet, 0.0).predicted_finish_s

    ten_s = 10 * node().device_s(row(50))
    with pytest.raises(OverloadedError):
        behind_ten(10.0)
    before_them_s = policy_behind_nobody(10.0)
    assert before_them_s == pytest.approx(node().idle_s(row(50)))
    assert behind_ten(60.0) == pytest.approx(ten_s + node().idle_s(row(50)))


def test_nodes_work_through_a_queue_together() -> None:
    """Half the rows of one kind on twice as many nodes wait half as long."""

    def wait_s(nodes: int) -> float:
        policy = ArgusPolicy()
        fleet = fleet_of([node(f"n{i}") for i in range(nodes)], limit=0)
        for _ in range(4):
            policy.admit(task(LADDER[:1], None), fleet, 0.0)
        finish_s = policy.admit(task(LADDER[:1], None), fleet, 0.0).predicted_finish_s
        return finish_s - node().idle_s(row(50))

    assert wait_s(1) == pytest.approx(4 * node().device_s(row(50)))
    assert wait_s(2) == pytest.approx(wait_s(1) / 2)


def test_costs_in_these_tests_are_not_linear() -> None:
    assert COSTS.steps.step_s(8) < 4 * COSTS.steps.step_s(2)
    assert math.isfinite(COSTS.decode_s)
