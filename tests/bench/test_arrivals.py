"""The load of the benchmarks is what it is said to be."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from arrivals import MIXED, SAME, Kind, poisson, requests

from argus.types import VariantInfo

VARIANT = VariantInfo("v", "p", 64, 64, 8, 128, ("ddim",), "ddim", 50, 1.5)


def test_arrivals_are_poisson_in_count_and_spread() -> None:
    rate, window_s, runs = 4.0, 10.0, 400
    counts = [len(poisson(rate, window_s, seed)) for seed in range(runs)]
    mean = sum(counts) / runs
    variance = sum((n - mean) ** 2 for n in counts) / (runs - 1)
    # Mean and variance of a Poisson count are both rate times window; bounds are 4 sigma.
    expected = rate * window_s
    assert abs(mean - expected) < 4 * math.sqrt(expected / runs)
    assert abs(variance - expected) < 4 * expected * math.sqrt(2 / runs)


def test_arrivals_ascend_within_the_window_and_repeat_with_their_seed() -> None:
    times = poisson(3.0, 5.0, seed=2)
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] < 5.0
    assert times == poisson(3.0, 5.0, seed=2) != poisson(3.0, 5.0, seed=3)


def test_a_mix_is_drawn_by_its_weights() -> None:
    drawn = requests(MIXED, 4000, 1, VARIANT, "m")
    shares = Counter(kind for kind, _ in drawn)
    assert sum(kind.weight for kind in MIXED) == pytest.approx(1.0)
    for kind in MIXED:
        assert shares[kind] / 4000 == pytest.approx(kind.weight, abs=0.03)


def test_requests_say_what_their_kind_says_and_differ_in_name_and_seed() -> None:
    drawn = requests(MIXED + SAME, 50, 1, VARIANT, "m")
    for kind, one in drawn:
        assert (one.sampler, one.steps) == (kind.sampler, kind.steps)
        assert (one.guidance > 1.0) == kind.guided
    assert len({one.request_id for _, one in drawn}) == len({one.seed for _, one in drawn}) == 50


def test_a_shortened_kind_keeps_its_weight() -> None:
    assert Kind("ddim", 50, True, 0.2).shortened(0.1) == Kind("ddim", 5, True, 0.2)
    assert Kind("ddim", 5, True).shortened(0.01).steps == 2
