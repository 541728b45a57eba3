"""Rows that others join on their node after they were started."""

from __future__ import annotations

import math

import pytest

from argus.control.filling import Filling
from argus.control.policies.argus import ArgusPolicy
from argus.control.policy import Start
from tests.unit.control.build import COSTS, node, row
from tests.unit.control.deciding import LADDER, fleet_of, start_all, task

BASE = LADDER[:3]


def test_a_crowded_end_is_that_of_a_node_that_fills_up_at_once() -> None:
    crowd = node(slots=4)
    for i in range(3):
        crowd.add(f"r{i}", row(50), float(i))
    # Whoever comes fourth fills it.
    assert crowd.crowded_s(row(50), 9.0) == pytest.approx(crowd.finish_s(row(50), 9.0))
    alone = node(slots=4)
    assert alone.crowded_s(row(20)) == pytest.approx(alone.busy_s(row(20)))
    alone.add("r", row(50), 1.0)
    alone.progress("r", 10)
    step_s = COSTS.steps.step_s(8)
    expected_s = COSTS.text_encode_s + 20 * step_s + COSTS.decode_s
    assert alone.crowded_s(row(20), 9.0) == pytest.approx(expected_s)
    assert alone.finish_s(row(20), 9.0) < expected_s
    alone.progress("r", 40)
    assert alone.crowded_s(row(20), 9.0) == pytest.approx(expected_s + COSTS.decode_s)


def test_a_crowded_end_is_never_before_the_predicted_one() -> None:
    some = node(slots=4)
    for i, steps in enumerate((5, 50, 20, 30, 40, 10)):
        assert some.crowded_s(row(25), float(i)) >= some.finish_s(row(25), float(i)) - 1e-9
        some.add(f"r{i}", row(steps), float(i))
        some.progress(f"r{i}", i)
    some.slowness = 2.0
    before_s = some.crowded_s(row(25), 3.0)
    some.slowness = 4.0
    assert some.crowded_s(row(25), 3.0) == pytest.approx(2 * before_s)


def test_until_something_was_learned_nodes_are_taken_as_they_are() -> None:
    assert Filling().likely_s("gpu", 1.0, 3.0) == 1.0
    assert Filling().likely_s("gpu", 1.0, 3.0, taken=0.25) == 2.0
    assert Filling().likely_s("gpu", 1.0, 3.0, taken=0.75) == 3.0
    assert Filling().likely_s("gpu", 3.0, 3.0) == 3.0


def test_most_rows_end_by_what_is_learned() -> None:
    filling = Filling(share=0.9)
    for n in range(128):
        filling.note("gpu", 1.0, 3.0, 1.0 + 0.01 * (n % 100))
    assert filling.likely_s("gpu", 1.0, 3.0) == pytest.approx(1.9, abs=0.05)
    assert filling.likely_s("gpu", 10.0, 12.0) == pytest.approx(10.9, abs=0.05)
    assert filling.likely_s("another", 1.0, 3.0) == 1.0


def test_rows_that_could_not_become_longer_tell_nothing() -> None:
    filling = Filling()
    for _ in range(128):
        filling.note("gpu", 3.0, 3.0, 3.0)
        filling.note("gpu", 3.0, 3.1, 3.1)
    assert filling.likely_s("gpu", 1.0, 3.0) == 1.0


def test_the_first_rows_teach_soon() -> None:
    filling = Filling()
    for _ in range(8):
        assert filling.likely_s("gpu", 1.0, 3.0) == 1.0
        filling.note("gpu", 1.0, 3.0, 2.5)
    assert filling.likely_s("gpu", 1.0, 3.0) == 2.5


def test_the_share_stays_between_the_two_times() -> None:
    filling = Filling()
    for _ in range(64):
        filling.note("fast", 1.0, 3.0, 0.5)
        filling.note("slow", 1.0, 3.0, 9.0)
    assert filling.likely_s("fast", 1.0, 3.0) == 1.0
    assert filling.likely_s("slow", 1.0, 3.0) == 3.0


def chosen(policy: ArgusPolicy, remaining_s: float, now_s: float) -> Start:
    fleet = fleet_of([node(slots=4)])
    policy.admit(task(BASE, remaining_s, now_s), fleet, now_s)
    (start,) = start_all(policy, fleet, now_s)
    return start


def test_a_row_is_given_the_time_that_it_may_come_to() -> None:
    """Alone the whole request takes 6.25 s, in full batches 15.25."""
    empty = node(slots=4)
    alone_s, full_s = empty.idle_s(row(50)), empty.busy_s(row(50))
    remaining_s = 1.3 * alone_s
    assert remaining_s < full_s
    lonely, crowded = ArgusPolicy(), ArgusPolicy()
    for n in range(64):
        start = chosen(lonely, math.inf, 100.0 * n)
        lonely.ended(start.task, 100.0 * n + alone_s)
        start = chosen(crowded, math.inf, 100.0 * n)
        crowded.ended(start.task, 100.0 * n + full_s)
    assert chosen(lonely, remaining_s, 6400.0).decision.offer.steps == 50
    assert chosen(crowded, remaining_s, 6400.0).decision.offer.steps < 50
    assert chosen(crowded, 1.05 * full_s, 6500.0).decision.offer.steps == 50


def test_a_full_node_is_taken_at_its_word() -> None:
    """The margin for rows that may be joined is not taken where none can be."""
    policy = ArgusPolicy()
    # Others came to half of these, which took the longer for it.
    for n in range(64):
        start = chosen(policy, math.inf, 100.0 * n)
        alone_s = start.decision.predicted_finish_s
        policy.ended(start.task, 100.0 * n + alone_s * (1.0 + n % 2))
    full = node(slots=4)
    for i in range(3):
        full.add(f"r{i}", row(50), 6400.0)
    fleet = fleet_of([full])
    last = task(BASE, 1.1 * full.finish_s(row(50), 6420.0), 6400.0)
    policy.admit(last, fleet, 6400.0)
    (start,) = start_all(policy, fleet, 6400.0)
    assert start.decision.offer.steps == 50
