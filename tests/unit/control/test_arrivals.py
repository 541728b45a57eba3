"""The arrival rate that prices follow: steady on calm traffic, quick on a jump."""

from __future__ import annotations

import numpy as np
import pytest

from argus.control.arrivals import SILENCE_S, ArrivalRate, Average


def poisson(rate: float, start_s: float, end_s: float, seed: int) -> list[float]:
    rng = np.random.default_rng(seed)
    return sorted(rng.uniform(start_s, end_s, rng.poisson(rate * (end_s - start_s))).tolist())


def error(rate: ArrivalRate | Average, true: float, times: list[float], from_s: float) -> float:
    """Return the root of the mean square error after each arrival later than `from_s`."""
    errors = []
    for now_s in times:
        rate.arrive(now_s)
        if now_s >= from_s:
            errors.append(rate.at(now_s) / true - 1)
    return float(np.sqrt(np.mean(np.square(errors))))


def test_calm_traffic_is_known_better_than_by_a_quick_average() -> None:
    times = poisson(2.0, 1000.0, 1600.0, seed=3)
    both, quick = (error(x, 2.0, times, 1120.0) for x in (ArrivalRate(8.0), Average(8.0)))
    assert both < 0.65 * quick


@pytest.mark.parametrize("seed", range(5))
def test_a_jump_is_seen_within_seconds(seed: int) -> None:
    rate = ArrivalRate(8.0)
    for now_s in [*poisson(1.0, 0.0, 300.0, seed), *poisson(8.0, 300.0, 310.0, seed + 100)]:
        rate.arrive(now_s)
    assert rate.at(310.0) > 3.0
    assert rate.at(330.0) < 2.5  # and that it is over


def test_the_first_arrivals_are_no_crowd() -> None:
    rate = ArrivalRate(8.0)
    assert rate.at(50.0) == 0.0
    for i in range(3):
        rate.arrive(50.0 + i / 100)
    assert rate.at(50.03) == pytest.approx(3 / SILENCE_S, rel=0.05)
