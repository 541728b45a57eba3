"""The price of a device second against a queue that is simulated, and against what must hold."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from argus.control.price_curve import LOADS, Mix, PriceCurve, solve_curve

Floats = NDArray[np.float64]

WORKS = np.array([4.2, 3.8, 3.4, 2.9, 2.5, 2.1])
QUALITIES = np.array([1.0, 0.995, 0.98, 0.96, 0.94, 0.915])
MIX = Mix(WORKS, QUALITIES, WORKS, slack_s=12.6)
NODES = 8


def earned(choose: Floats, load: float, width_s: float) -> float:
    """Return the mean quality of a choice by wait, over 400 queues of 400 arrivals each.

    Args:
        choose: (waits,) price by wait; the choice is the best at that price that is on time.
        load: arrivals relative to what is served without approximation.
        width_s: between two waits.
    """
    gaps = np.random.default_rng(1).exponential(WORKS[0] / NODES / load, (400, 400))
    waits = np.arange(len(choose)) * width_s
    wait_s, total = np.zeros(400), 0.0
    for gap_s in gaps:
        wait_s = np.maximum(0.0, wait_s - gap_s)
        price = np.interp(wait_s, waits, choose)[:, None]
        on_time = wait_s[:, None] + WORKS <= MIX.slack_s
        worth = np.where(on_time, QUALITIES - price * WORKS, -np.inf)
        best, taken = worth.argmax(axis=1), worth.max(axis=1) >= 0
        total += float(QUALITIES[best][taken].sum())
        wait_s += np.where(taken, WORKS[best] / NODES, 0.0)
    return total / gaps.size


def prices_at(curve: PriceCurve, load: float) -> Floats:
    return np.array(curve.at_load(load))


@pytest.mark.parametrize("load", [0.9, 1.2, 1.7])
def test_going_by_the_curve_earns_more_than_any_one_price_and_than_none(load: float) -> None:
    """Fixed prices from 0 to a whole picture for the cheapest work, each tried on its own."""
    curve = solve_curve(MIX, NODES)
    prices = prices_at(curve, load)
    mine = earned(prices, load, curve.width_s)
    fixed = [0.0, *np.geomspace(0.002, 0.43, 8)]
    others = [earned(np.full_like(prices, p), load, curve.width_s) for p in fixed]
    assert mine >= max(others) - 5e-4


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_dearer_and_cheaper_prices_than_the_curve_earn_no_more(factor: float) -> None:
    curve = solve_curve(MIX, NODES)
    prices = prices_at(curve, 1.2)
    mine = earned(prices, 1.2, curve.width_s)
    assert mine >= earned(factor * prices, 1.2, curve.width_s) - 5e-4


def test_the_price_rises_with_wait_and_load_from_nothing_to_the_worth_of_a_request() -> None:
    curve = solve_curve(MIX, NODES)
    assert np.all(np.isfinite(curve.prices))
    assert np.all(np.diff(curve.prices, axis=1) >= 0)
    assert np.all(np.diff(curve.prices, axis=0) >= -1e-3)
    assert curve.prices[0, 0] == pytest.approx(0.0, abs=1e-5)
    assert curve.prices[-1, -1] == pytest.approx(QUALITIES[-1] / WORKS[-1], rel=0.02)


def test_going_on_from_other_curves_leads_to_the_same_one() -> None:
    """Also from one whose choices are impossible now, because deadlines became shorter."""
    cold = solve_curve(MIX, NODES)
    longer = solve_curve(Mix(WORKS, QUALITIES, WORKS, slack_s=40.0), NODES)
    for before in (cold, longer):
        warm = solve_curve(MIX, NODES, before)
        assert warm.prices == pytest.approx(cold.prices, abs=1e-4)


def test_larger_clusters_need_less_room_for_chance() -> None:
    """At the same load and wait a device second is worth less where arrivals average out."""
    small, large = (prices_at(solve_curve(MIX, n), 0.9) for n in (4, 64))
    middle = len(small) // 2
    assert large[middle] < small[middle]
    assert LOADS[0] < 0.9 < LOADS[-1]


def test_a_ladder_with_a_very_cheap_level_has_curves_for_the_loads_it_can_carry() -> None:
    works = np.array([1.0, 0.1, 0.03])
    curve = solve_curve(Mix(works, np.array([1.0, 0.98, 0.85]), works, 3.0), 2)
    assert curve.loads[: len(LOADS)] == pytest.approx(LOADS)
    assert curve.loads[-1] >= 2 / 0.03
    waits = len(curve.at_load(1.0))
    half = waits // 4
    assert curve.at_load(30.0)[half] > 1.5 * curve.at_load(8.0)[half]
    # From one cheapest level to the next the loads are others; the old choices still help.
    other = Mix(np.array([1.0, 0.3, 0.1]), np.array([1.0, 0.98, 0.9]), works, 3.0)
    again, fresh = solve_curve(other, 2, curve), solve_curve(other, 2)
    assert len(again.loads) < len(curve.loads)
    assert again.prices == pytest.approx(fresh.prices, rel=0.02, abs=1e-4)


def test_a_curve_is_found_for_long_and_for_short_deadlines() -> None:
    rng = np.random.default_rng(6)
    for _ in range(200):
        works = np.linspace(3.5, 2.7, 19) * rng.uniform(0.5, 4.0)
        mix = Mix(works, np.linspace(1.0, 0.9, 19), works, slack_s=rng.uniform(5.0, 120.0))
        curve = solve_curve(mix, int(rng.integers(1, 9)))
        assert np.isfinite(curve.prices).all()
        assert (curve.prices >= 0).all()


@pytest.mark.parametrize("load", [0.01, 0.5, 1.234, 4.0, 100.0])
def test_prices_are_read_between_loads_and_no_further(load: float) -> None:
    curve = solve_curve(MIX, NODES)
    expected = [np.interp(load, curve.loads, column) for column in curve.prices.T]
    assert curve.at_load(load) == pytest.approx(expected)
