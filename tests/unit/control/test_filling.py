"""Rows that others join on their node after they were started."""

from __future__ import annotations

import json
import math

import pytest

from argus.control.filling import Filling
from argus.control.policies.argus import ArgusPolicy
from argus.control.policies.argus_options import ArgusOptions
from argus.control.policy import Start
from tests.unit.control.build import COSTS, node, row
from tests.unit.control.deciding import BOTH, LADDER, decide, fleet_of, start_all, task

BASE = LADDER[:3]


def test_a_filled_end_is_that_of_a_node_that_fills_up_at_once() -> None:
    half = node(slots=4)
    for i in range(3):
        half.add(f"r{i}", row(50), float(i))
    # Whoever comes fourth fills it.
    assert half.filled_s(row(50), 9.0) == pytest.approx(half.finish_s(row(50), 9.0))
    alone = node(slots=4)
    assert alone.filled_s(row(20)) == pytest.approx(alone.busy_s(row(20)))
    alone.add("r", row(50), 1.0)
    alone.progress("r", 10)
    step_s = COSTS.steps.step_s(8)
    expected_s = COSTS.text_encode_s + 20 * step_s + COSTS.decode_s
    assert alone.filled_s(row(20), 9.0) == pytest.approx(expected_s)
    assert alone.finish_s(row(20), 9.0) < expected_s
    alone.progress("r", 40)
    assert alone.filled_s(row(20), 9.0) == pytest.approx(expected_s + COSTS.decode_s)


def test_on_a_full_node_nobody_can_join_whatever_variants_and_sizes_it_has() -> None:
    mixed = node(slots=4, costs=BOTH)
    for i, shape in enumerate((row(50), row(30, variant="small"), row(20, variant="small"))):
        mixed.add(f"r{i}", shape, float(i))
    for last in (row(50), row(40, variant="small"), row(25, size=128)):
        # What may come in the place of those that end is all.
        assert mixed.filled_s(last, 9.0) <= 1.1 * mixed.finish_s(last, 9.0)
    mixed.remove("r0")
    for last in (row(50), row(40, variant="small")):
        assert mixed.filled_s(last, 9.0) > 1.05 * mixed.finish_s(last, 9.0)


def test_a_filled_end_is_never_before_the_predicted_one() -> None:
    some = node(slots=4)
    for i, steps in enumerate((5, 50, 20, 30, 40, 10)):
        assert some.filled_s(row(25), float(i)) >= some.finish_s(row(25), float(i)) - 1e-9
        some.add(f"r{i}", row(steps), float(i))
        some.progress(f"r{i}", i)
    some.slowness = 2.0
    before_s = some.filled_s(row(25), 3.0)
    some.slowness = 4.0
    assert some.filled_s(row(25), 3.0) == pytest.approx(2 * before_s)


def test_until_something_was_learned_nodes_fill_up_by_how_many_are_there() -> None:
    assert Filling().likely_s("gpu", 1.0, 3.0) == 1.0
    assert Filling().likely_s("gpu", 1.0, 3.0, slots_in_use=0.25) == 2.0
    assert Filling().likely_s("gpu", 1.0, 3.0, slots_in_use=0.75) == 3.0
    assert math.isnan(Filling().largest)
    assert Filling().likely_s("gpu", 3.0, 3.0) == 3.0


def test_most_rows_end_by_what_is_learned() -> None:
    filling = Filling(quantile=0.9)
    for n in range(128):
        filling.note("gpu", 1.0, 3.0, 1.0 + 0.01 * (n % 100))
    assert filling.likely_s("gpu", 1.0, 3.0) == pytest.approx(1.9, abs=0.05)
    assert filling.likely_s("gpu", 10.0, 12.0) == pytest.approx(10.9, abs=0.05)
    assert filling.likely_s("another", 1.0, 3.0) == 1.0


def test_rows_that_could_not_become_longer_tell_nothing() -> None:
    filling = Filling()
    for _ in range(128):
        assert filling.note("gpu", 3.0, 3.0, 3.0) == 3.0
        # So small a difference is the margin's.
        assert filling.note("gpu", 3.0, 3.1, 3.1) == 3.0
        assert filling.note("gpu", 0.0, 0.0, 1.0) == 0.0
    assert filling.likely_s("gpu", 1.0, 3.0) == 1.0


def test_what_company_explains_lies_between_the_two_times() -> None:
    filling = Filling()
    assert [filling.note("gpu", 1.0, 3.0, took_s) for took_s in (0.5, 2.5, 4.0)] == [1.0, 2.5, 3.0]


def test_another_process_goes_on_with_what_was_learned() -> None:
    first, second = Filling(), Filling()
    for n in range(32):
        first.note("gpu", 1.0, 3.0, 1.0 + 0.02 * n)
        first.note("few", 1.0, 3.0, 2.0) if n < 4 else None
    second.fractions.restore(json.loads(json.dumps(first.fractions.state())))
    assert second.likely_s("gpu", 1.0, 3.0) == pytest.approx(first.likely_s("gpu", 1.0, 3.0))
    assert second.likely_s("few", 1.0, 3.0) == 1.0
    with pytest.raises(ValueError, match="from 0 to 1"):
        second.fractions.restore({"gpu": [0.5, 1.5]})
    with pytest.raises(ValueError, match="from 0 to 1"):
        second.fractions.restore({"gpu": [math.nan]})
    assert second.largest == pytest.approx(first.largest)


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
    quiet, busy = ArgusPolicy(), ArgusPolicy()
    for n in range(64):
        start = chosen(quiet, math.inf, 100.0 * n)
        quiet.ended(start.task, 100.0 * n + alone_s)
        start = chosen(busy, math.inf, 100.0 * n)
        busy.ended(start.task, 100.0 * n + full_s)
    assert chosen(quiet, remaining_s, 6400.0).decision.offer.steps == 50
    assert chosen(busy, remaining_s, 6400.0).decision.offer.steps < 50
    assert chosen(busy, 1.05 * full_s, 6500.0).decision.offer.steps == 50


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


def test_a_node_that_ends_a_little_later_is_taken_where_the_first_may_fill_up() -> None:
    wide = node("a", slots=4)
    for i in range(2):
        wide.add(f"r{i}", row(5), 5.0)
    narrow = node("b", slots=1, max_lanes=2)
    soonest_s = wide.finish_s(row(50), 60.0)
    narrow.slowness = 1.05 * soonest_s / narrow.finish_s(row(50), 60.0)
    remaining_s = 1.1 * narrow.finish_s(row(50), 60.0)
    assert wide.filled_s(row(50), remaining_s) > remaining_s
    decision = decide(LADDER[:3], [wide, narrow], remaining_s)
    assert decision is not None
    assert (decision.node, decision.offer.steps) == ("b", 50)


def test_without_it_margins_are_for_company_too() -> None:
    policy = ArgusPolicy(ArgusOptions(filling=False))
    empty = node(slots=4)
    for n in range(64):
        start = chosen(policy, math.inf, 100.0 * n)
        policy.ended(start.task, 100.0 * n + empty.busy_s(start.decision.offer.row))
    figures = policy.figures(6400.0)
    assert figures.margin == pytest.approx(empty.busy_s(row(50)) / empty.idle_s(row(50)))
    assert math.isnan(figures.filling)


def test_what_nodes_fill_up_to_is_kept_over_a_restart() -> None:
    first = ArgusPolicy()
    full_s = node(slots=4).busy_s(row(50))
    for n in range(64):
        start = chosen(first, 100.0, 100.0 * n)
        first.ended(start.task, 100.0 * n + full_s)
    state = json.loads(json.dumps(first.state(6400.0)))
    second = ArgusPolicy()
    second.restore(state, 0.0)
    remaining_s = 0.8 * full_s
    assert chosen(second, remaining_s, 0.0).decision.offer.steps < 50
    # Margins of before were for company, too.
    third = ArgusPolicy()
    del state["filling"]
    state["margins"] = {"excesses": {"test": [2.5] * 64}, "ratios": {"test": [1.0] * 64}}
    third.restore(state, 0.0)
    assert chosen(third, remaining_s, 0.0).decision.offer.steps == 50
