from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable

import numpy as np
import pytest
import traffic
from demand import Average, Forecaster, Ours, answers, truth
from scipy import stats

from argus.control.averaging import _Line, _Mean
from argus.control.demand import (
    DemandForecast,
    ForecastOptions,
    _interval,
    _last_jump,
    _log_ratio,
)
from argus.errors import InvalidArgumentError


def poisson(rate_per_s: float, seconds: float, seed: int, start_s: float = 0.0) -> list[float]:
    rng = np.random.default_rng(seed)
    count = rng.poisson(rate_per_s * seconds)
    return sorted((start_s + seconds * rng.random(count)).tolist())


def fed(moments: list[float], **options: float) -> DemandForecast:
    forecast = DemandForecast(options=ForecastOptions(**options))
    for moment in moments:
        forecast.observe(moment)
    return forecast


def test_calm_traffic_is_forecast_without_bias_and_better_than_by_a_minute() -> None:
    rng = np.random.default_rng(3)
    rates = traffic.steady(4500, rng)
    moments = traffic.arrivals(rates, rng)
    ours, minute = (answers(make, moments, len(rates)) for make in (Ours(), Average(60)))
    assert ours.mean() == pytest.approx(2.0, abs=0.04)
    assert ours.std() < 0.75 * minute.std()


def test_the_interval_holds_the_rate_nine_times_in_ten() -> None:
    inside = 0
    for seed in range(60):
        told = fed(poisson(3.0, 100.0, seed)).forecast(100.0, 10.0)
        assert told.low_per_s <= told.rate_per_s <= told.high_per_s
        inside += told.low_per_s <= 3.0 <= told.high_per_s
    # 54 expected; fewer than 47 or all of them would be one in a hundred.
    assert 47 <= inside < 60


def test_a_fivefold_jump_is_known_within_seconds() -> None:
    taken = []
    for seed in range(9):
        before, after = poisson(2.0, 300.0, seed), poisson(10.0, 60.0, 99 + seed, start_s=300.0)
        forecast = fed(before)
        for at_s in range(301, 360):
            while after and after[0] < at_s:
                forecast.observe(after.pop(0))
            if forecast.forecast(at_s, 5.0).rate_per_s > 7.5:
                taken.append(at_s - 300)
                assert forecast.changed_at_s == pytest.approx(300.0, abs=3.0)
                break
    assert len(taken) == 9
    assert np.median(taken) <= 3
    assert max(taken) <= 8


def test_an_end_of_traffic_is_known_within_seconds() -> None:
    forecast = fed(poisson(5.0, 300.0, 1))
    assert forecast.forecast(306.0, 5.0).rate_per_s < 0.5
    assert forecast.changed_at_s == pytest.approx(300.0, abs=2.0)
    # Years of silence take no longer than minutes of it.
    assert forecast.forecast(1e9, 5.0).rate_per_s == pytest.approx(0.0, abs=0.01)


def test_calm_traffic_seldom_alarms() -> None:
    alarms = set()
    for seed in range(3):
        forecast = DemandForecast()
        for moment in poisson(4.0, 1500.0, seed):
            forecast.observe(moment)
            alarms.add((seed, forecast.changed_at_s))
    assert len(alarms - {(0, 0.0), (1, 0.0), (2, 0.0)}) <= 1


def clumps(seed: int) -> list[float]:
    rng = random.Random(seed)
    moments, at_s = [], 0.0
    while at_s < 1200.0:
        at_s += rng.expovariate(0.8)
        moments += [at_s + 0.01 * i for i in range(rng.choice([1, 2, 3, 6]))]
    return sorted(moments)


def test_clumps_are_not_taken_for_changes() -> None:
    changes = dict.fromkeys((1.0, 4.0), 0)
    for seed in range(2):
        for spread in changes:
            forecast, seen = DemandForecast(options=ForecastOptions(most_dispersion=spread)), set()
            for moment in clumps(seed):
                forecast.observe(moment)
                seen.add(forecast.changed_at_s)
            changes[spread] += len(seen) - 1
    assert changes[4.0] <= 1 < 4 < changes[1.0]


@pytest.mark.parametrize(("shape", "most"), [("diurnal", 1.15), ("bursty", 1.05), ("azure", 1.0)])
def test_moving_traffic_is_forecast_as_well_as_by_the_best_average(shape: str, most: float) -> None:
    rng = np.random.default_rng(7)
    rates = traffic.SHAPES[shape](5700, rng)
    moments, right = traffic.arrivals(rates, rng), truth(rates)

    def error(make: Callable[[], Forecaster]) -> np.ndarray:
        off = answers(make(), moments, len(rates)) - right
        return np.sqrt((off**2).mean(axis=0))[:2]  # over 5 and 30 s

    best = np.min([error(lambda s=s: Average(s)) for s in (10, 30, 60, 300)], axis=0)
    assert (error(Ours) <= most * best).all()


def test_a_ramp_is_extrapolated() -> None:
    rng = np.random.default_rng(2)
    rates = np.linspace(5.0, 65.0, 600)
    forecast = fed(traffic.arrivals(rates, rng).tolist())
    now, later = (forecast.forecast(600.0, h).rate_per_s for h in (1.0, 120.0))
    assert now == pytest.approx(65.0, rel=0.1)
    assert later - now == pytest.approx(6.0, abs=3.0)


def test_the_ratio_is_that_of_poisson_likelihoods() -> None:
    early, late = [3, 1, 2, 4, 2, 0], [9, 7, 12]
    pooled, before, after = np.mean(early + late), np.mean(early), np.mean(late)

    def log(counts: list[int], rate: float) -> float:
        return float(stats.poisson.logpmf(counts, rate).sum())

    expected = log(early, before) + log(late, after) - log(early + late, pooled)
    assert _log_ratio(sum(late), 3, sum(early), 6) == pytest.approx(expected)
    assert _log_ratio(0, 3, 4, 6) == pytest.approx(4 * math.log(9 / 6))


def test_the_last_jump_is_that_of_a_search() -> None:
    rng = np.random.default_rng(5)
    found = set()
    for _ in range(500):
        bins, rates = int(rng.integers(2, 80)), rng.uniform(0.0, 6.0, 2)
        counts = rng.poisson(np.where(np.arange(bins) < bins // 2, *rates)).tolist()
        sums, alarm = [0, *itertools.accumulate(counts)], float(rng.uniform(0.5, 6.0))
        splits = range(1, bins)
        ratios = {
            split: _log_ratio(sum(counts[-split:]), split, sum(counts[:-split]), bins - split)
            for split in splits
        }
        best = max(splits, key=ratios.__getitem__)
        expected = best if ratios[best] > alarm else 0
        found.add(expected > 0)
        assert _last_jump(sums, bins, alarm, splits) == expected
    assert found == {False, True}


def test_the_rate_alone_is_that_of_the_forecast() -> None:
    moments = poisson(3.0, 60.0, 4)
    for count in (0, 1, 20, len(moments)):
        told, alone = fed(moments[:count]), fed(moments[:count])
        for now_s, horizon_s in ((60.5, 5.0), (61.0, 300.0)):
            expected = told.forecast(now_s, horizon_s).rate_per_s
            assert alone.rate_per_s(now_s, horizon_s) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("line", [False, True])
def test_discounted_sums_are_weighted_least_squares(line: bool) -> None:
    counts = np.random.default_rng(0).poisson(5.0, 40)
    model = _Line(25.0) if line else _Mean(25.0)
    for count in counts:
        model.add(int(count))
    ages = np.arange(40)[::-1]
    weights = np.exp(-ages / 25.0)
    design = np.vander(-ages.astype(float), 2 if line else 1, increasing=True)
    inner = np.linalg.inv(design.T @ (weights[:, None] * design)) @ (design.T * weights)
    ahead = 7.0
    at = np.array([1.0, ahead][: design.shape[1]])
    assert model.knows
    assert model.rate(ahead) == pytest.approx(at @ inner @ counts)
    mean = np.average(counts, weights=weights)
    expected = 1.5 * mean * float(((at @ inner) ** 2).sum())
    assert model.tell(ahead, spread=1.5)[1] == pytest.approx(expected)


def test_the_interval_is_a_gamma_distributions() -> None:
    for rate, variance in [(5.0, 0.1), (2.0, 0.5), (0.7, 0.2)]:
        gamma = stats.gamma(rate**2 / variance, scale=variance / rate)
        assert _interval(rate, variance) == pytest.approx(gamma.ppf([0.05, 0.95]), rel=0.02)


def test_the_mix_is_learned_and_a_new_mix_is_seen_soon() -> None:
    rng = random.Random(0)
    forecast = DemandForecast(classes=3)
    assert forecast.forecast(0.0, 1.0).shares == pytest.approx((1 / 3,) * 3)
    at_s = 0.0
    for mix, tolerance, count in [((6, 3, 1), 0.06, 2000), ((1, 3, 6), 0.15, 250)]:
        for _ in range(count):
            at_s += rng.expovariate(5.0)
            forecast.observe(at_s, rng.choices(range(3), mix)[0])
        told = forecast.forecast(at_s, 10.0)
        assert told.shares == pytest.approx([x / 10 for x in mix], abs=tolerance)
        assert math.fsum(told.shares) == pytest.approx(1.0)
        assert math.fsum(told.rates_per_s) == pytest.approx(told.rate_per_s)


def test_before_anything_is_known_nothing_is_ruled_out() -> None:
    told = DemandForecast(now_s=50.0).forecast(50.0, 5.0)
    assert (told.rate_per_s, told.high_per_s) == (0.0, math.inf)


@pytest.mark.parametrize("name", ["bin_s", "alarm", "mix_requests", "longest_s", "most_dispersion"])
def test_bad_options_are_named(name: str) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        ForecastOptions(**{name: 0.0})
    assert raised.value.field == name
    with pytest.raises(InvalidArgumentError, match="classes"):
        DemandForecast(classes=0)
