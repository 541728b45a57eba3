"""A policy goes on where another process was: the same price for the same backlog."""

from __future__ import annotations

import json
import math

import pytest

from argus.control.fleet import Fleet
from argus.control.policies.argus import ArgusPolicy
from argus.control.policy import Lasting
from tests.unit.control.build import node
from tests.unit.control.deciding import LADDER, fleet_of, task


def seen(requests: int) -> tuple[ArgusPolicy, Fleet]:
    """Return a policy that has seen so many requests, one each second, and has planned."""
    policy, fleet = ArgusPolicy(), fleet_of([node("a"), node("b")])
    for second in range(requests):
        come = task(LADDER, 30.0, float(second))
        policy.admit(come, fleet, float(second))
        policy.withdraw(come)
    policy.plan(fleet, float(requests))
    return policy, fleet


def test_the_price_goes_on_as_if_nothing_had_happened() -> None:
    old, fleet = seen(64)
    assert isinstance(old, Lasting)
    new = ArgusPolicy()
    # The other process's clock is 1,000 s ahead.
    new.restore(json.loads(json.dumps(old.state(64.0))), 1064.0)
    before, after = old.figures(66.0), new.figures(1066.0)
    assert after.arrivals_per_s == pytest.approx(before.arrivals_per_s, rel=0.15)
    assert after.load == pytest.approx(before.load, rel=0.15)
    assert after.plan_age_s == pytest.approx(before.plan_age_s)
    prices = []
    for policy, now_s in ((old, 66.0), (new, 1066.0)):
        late = task(LADDER, 30.0, now_s)
        policy.admit(late, fleet, now_s)
        choices = policy._waiting[late].choices
        prices.append(policy._pricing.price(choices, 500.0, 2, now_s))
    assert prices[0] > 0
    assert prices[1] == pytest.approx(prices[0], rel=0.1)


def test_the_time_kept_free_goes_on_and_is_forgotten_as_before() -> None:
    old, new = seen(64)[0], ArgusPolicy()
    for _ in range(10):
        old._reserve.note(True, 64.0)
    new.restore(json.loads(json.dumps(old.state(64.0))), 1064.0)
    assert old.figures(164.0).reserve > 0
    assert new.figures(1164.0).reserve == pytest.approx(old.figures(164.0).reserve, abs=1e-3)


@pytest.mark.parametrize("reserve", [math.nan, -0.1, 2.0])
def test_time_kept_free_that_makes_no_sense_is_refused(reserve: float) -> None:
    state = json.loads(json.dumps(seen(64)[0].state(64.0))) | {"reserve": reserve}
    new = ArgusPolicy()
    with pytest.raises(ValueError, match="kept free"):
        new.restore(state, 0.0)
    assert new._pricing.curve is None


def test_little_is_kept_before_anything_was_seen() -> None:
    new = ArgusPolicy()
    new.restore(json.loads(json.dumps(ArgusPolicy().state(0.0))), 0.0)
    assert new.figures(0.0).plan_age_s is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("whole_s", math.nan),
        ("rate", [-1.0, 5.0]),
        ("mix", [[1.0]]),
        ("curve", {"width_s": 1.0, "prices": [[0.0]], "choices": [[0]], "nodes": 1}),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_of_it_taken(field: str, value: object) -> None:
    state = json.loads(json.dumps(seen(64)[0].state(64.0)))
    state["pricing"][field] = value
    new = ArgusPolicy()
    with pytest.raises((ValueError, KeyError)):
        new.restore(state, 0.0)
    assert new._pricing.curve is None
    assert new.figures(0.0).arrivals_per_s == 0.0


@pytest.mark.parametrize("field", ["width_s", "nodes", "age_s", "planned_price"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_a_curve_that_makes_no_sense_is_refused(field: str, value: float) -> None:
    state = json.loads(json.dumps(seen(64)[0].state(64.0)))
    state["pricing"]["curve"][field] = value
    new = ArgusPolicy()
    with pytest.raises(ValueError, match="curve"):
        new.restore(state, 0.0)
    assert new._pricing.curve is None


@pytest.mark.parametrize("choice", [math.inf, 10**30, -1])
def test_a_curve_of_impossible_choices_is_refused(choice: float) -> None:
    state = json.loads(json.dumps(seen(64)[0].state(64.0)))
    state["pricing"]["curve"]["choices"][0][0] = choice
    new = ArgusPolicy()
    with pytest.raises((ValueError, OverflowError)):
        new.restore(state, 0.0)
    assert new._pricing.curve is None


@pytest.mark.parametrize("field", ["loads", "prices"])
def test_a_curve_with_a_hole_is_refused(field: str) -> None:
    state = json.loads(json.dumps(seen(64)[0].state(64.0)))
    numbers = state["pricing"]["curve"][field]
    (numbers if field == "loads" else numbers[3])[-1] = math.nan
    with pytest.raises(ValueError, match="curve"):
        ArgusPolicy().restore(state, 0.0)
