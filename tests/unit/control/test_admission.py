from __future__ import annotations

import pytest

from argus.clock import ManualClock
from argus.control.admission import SHORTEST_RETRY_S, Load, admit, queue_s, room_s
from argus.errors import DeadlineError, OverloadedError, UnavailableError
from tests.unit.control.build import COSTS, SMALL_COSTS, node, row
from tests.unit.control.test_router import BOTH, LADDER


def test_an_idle_cluster_admits_at_the_reference() -> None:
    decision = admit(LADDER, None, Load([node()], [], 0, 10))
    assert decision.offer is LADDER[0]


def test_a_full_house_refuses_with_the_time_of_the_next_departure() -> None:
    model = node()
    model.add("a", row(10))
    model.add("b", row(50))
    with pytest.raises(OverloadedError) as caught:
        admit(LADDER, None, Load([model], [], 2, 2))
    assert caught.value.retry_after_s == pytest.approx(2 * 0.05 + 10 * 0.18 + 0.2)
    assert caught.value.retry_after_s == room_s([model, node("idle")])


def test_nobody_is_told_to_come_back_at_once() -> None:
    with pytest.raises(OverloadedError) as caught:
        admit(LADDER, None, Load([node()], [], 2, 2))
    assert caught.value.retry_after_s == SHORTEST_RETRY_S
    model = node(slots=1)
    model.add("a", row(10), due_s=1.0)
    late_s = model.finish_s(LADDER[0].row) - 0.01
    with pytest.raises(OverloadedError) as caught:
        admit(LADDER[:1], late_s, Load([model], [], 1, 2))
    assert caught.value.retry_after_s == SHORTEST_RETRY_S


def test_load_degrades_before_it_refuses() -> None:
    model = node(costs=BOTH)
    qualities: list[float] = []

    def offer_more_work() -> None:
        for i in range(100):
            decision = admit(LADDER, 8.0, Load([model], [], i, 1000))
            qualities.append(decision.predicted_quality)
            model.add(str(i), decision.offer.row, due_s=8.0)

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
        admit(LADDER[:1], 8.0, Load([model], [], 3, 100))
    clock.advance(caught.value.retry_after_s)
    steps_done = int((clock.now() - 2 * (0.05 + 0.2) - 0.05) / 0.12) + 1
    for i in range(3):
        here = min(50, max(0, steps_done - 50 * i))
        if here == 50:
            model.remove(str(i))
        elif here:
            model.progress(str(i), here)
    assert admit(LADDER[:1], 8.0, Load([model], [], 1, 100)).predicted_finish_s <= 8.0


def test_what_even_an_idle_cluster_cannot_do_in_time_is_not_worth_a_retry() -> None:
    with pytest.raises(DeadlineError, match="idle cluster"):
        admit(LADDER, 0.5, Load([node(costs=BOTH)], [], 0, 100))


def test_no_node_is_unavailable_even_when_the_queue_is_full() -> None:
    with pytest.raises(UnavailableError):
        admit(LADDER, None, Load([], [], 100, 100))
    with pytest.raises(UnavailableError):
        admit((), None, Load([node()], [], 0, 100))


def test_the_queue_ahead_counts_against_the_deadline() -> None:
    queued = [row(50)] * 10
    with pytest.raises(OverloadedError):
        admit(LADDER, 10.0, Load([node(costs=BOTH)], queued, 10, 100))
    decision = admit(LADDER, 60.0, Load([node(costs=BOTH)], queued, 10, 100))
    assert decision.predicted_finish_s > 10 * node().device_s(row(50))


def test_nodes_work_through_a_queue_together() -> None:
    one, two = node("a"), node("b")
    draining, wrong = node("c"), node("d", costs={"small": SMALL_COSTS})
    draining.draining = True
    queued = [row(50)] * 4
    alone_s = 4 * one.device_s(row(50))
    assert queue_s(queued, [one]) == pytest.approx(alone_s)
    assert queue_s(queued, [one, two, draining, wrong]) == pytest.approx(alone_s / 2)
    assert queue_s([], [one]) == 0.0
    assert queue_s(queued, []) == 0.0


def test_costs_in_these_tests_are_not_linear() -> None:
    assert COSTS.steps.step_s(8) < 4 * COSTS.steps.step_s(2)
