"""What rows took beyond what was predicted, and what that says of others."""

from __future__ import annotations

import json
import math

import pytest

from argus.control.margins import Margins
from argus.control.policies.argus import ArgusPolicy
from tests.unit.control.build import node
from tests.unit.control.deciding import LADDER, fleet_of, offer, start_all, task

WHOLE_S = node(slots=1).idle_s(LADDER[0].row)
SHORT = offer("base-1", 0.5, 1)


def test_what_a_short_row_lost_is_what_a_long_one_may_lose() -> None:
    margins = Margins()
    for _ in range(64):
        margins.note("gpu", 0.05, 0.55, 1.0)
    assert margins.with_margin("gpu", 0.05, 1.0) == pytest.approx(0.55)
    assert margins.with_margin("gpu", 1.0, 1.0) == pytest.approx(1.5)
    assert margins.with_margin("gpu", 4.0, 1.0) == pytest.approx(6.0)


def test_short_rows_alone_stand_for_those_that_others_allow() -> None:
    margins = Margins()
    for _ in range(64):
        margins.note("gpu", 1.0, 1.0, 1.0)
        margins.note("gpu", 0.05, 0.55, 0.05)
    assert margins.with_margin("gpu", 1.0, 1.0) == pytest.approx(2.0, abs=0.35)
    assert margins.with_margin("gpu", 0.05, 0.05) < 0.2


def test_long_rows_that_are_slow_in_proportion_stay_so() -> None:
    margins = Margins()
    for _ in range(64):
        margins.note("gpu", 2.0, 3.0, 1.0)
    assert margins.with_margin("gpu", 4.0, 1.0) == pytest.approx(6.0)
    assert margins.typical == pytest.approx(1.5)


def test_short_rows_that_were_held_up_do_not_rule_out_longer_ones() -> None:
    """Half a second lost by rows of a third of a second leaves time for one of six seconds."""
    policy, fleet, now_s = ArgusPolicy(), fleet_of([node(slots=1)], limit=1), 0.0
    for _ in range(64):
        short = task([LADDER[0], SHORT], 1.0, now_s)
        policy.admit(short, fleet, now_s)
        (start,) = start_all(policy, fleet, now_s)
        assert start.decision.offer is SHORT
        now_s += fleet["n1"].idle_s(SHORT.row) + 0.5
        fleet["n1"].remove(short.id)
        policy.ended(short, now_s)
        now_s += 10.0
    whole = task([LADDER[0], SHORT], WHOLE_S + 0.6, now_s)
    assert policy.admit(whole, fleet, now_s).offer is LADDER[0]


def test_margins_go_on_where_they_were() -> None:
    old, new = Margins(), Margins()
    for n in range(64):
        old.note("gpu", 1.0, 1.0 + 0.01 * n, 2.0)
    new.restore(json.loads(json.dumps(old.state())))
    assert new.largest == pytest.approx(old.largest, abs=1e-3)
    assert new.typical == pytest.approx(old.typical, abs=1e-3)


@pytest.mark.parametrize("part", ["excesses", "ratios"])
def test_what_makes_no_sense_is_not_taken(part: str) -> None:
    good = {"gpu": [1.5] * 64}
    new = Margins()
    with pytest.raises(ValueError, match="finite"):
        new.restore({"excesses": good, "ratios": good, part: {"gpu": [math.nan]}})
    assert new.largest == Margins().largest
    assert new.typical == 1.0
