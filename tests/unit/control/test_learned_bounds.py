"""Lower bounds hold as often as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from argus.control.learned.bounds import Bounds, margin


@pytest.mark.parametrize(
    ("n", "place"), [(9, 9), (10, 10), (19, 18), (99, 90), (120, 109), (8, None), (0, None)]
)
def test_the_margin_is_the_rank_that_conformal_prediction_names(n: int, place: int | None) -> None:
    errors = np.random.default_rng(n).permutation(np.arange(1.0, n + 1))
    assert margin(errors, 0.9) == (math.inf if place is None else place)


def test_exchangeable_pictures_reach_their_bound_nine_times_in_ten() -> None:
    """Scores in eighths with many ties, errors that grow as predictions fall: 400 calibrations."""
    rng = np.random.default_rng(0)
    n, trials = 120, 400
    reached = []
    for _ in range(trials):
        predicted = rng.uniform(0.3, 1.0, (2 * n, 1))
        measured = rng.binomial(8, np.clip(predicted - 0.05, 0, 1)) / 8
        blank = Bounds(np.array([0.3, 1.0]), np.array([0.2, 0.05]), np.zeros(1), np.zeros(1))
        sizes = blank.size(predicted)
        found = margin(((predicted - measured) / sizes)[:n, 0], 0.9)
        bounds = Bounds(blank.qualities, blank.sizes, np.array([found]), np.zeros(1))
        reached.append((measured >= bounds.lower(predicted))[n:].mean())
    # Between the coverage and 1 / (n + 1) more, but for ties, which only add; three errors allowed.
    error = np.std(reached) / math.sqrt(trials)
    assert 0.9 - 3 * error <= np.mean(reached) <= 0.92 + 3 * error


def test_bounds_are_neither_negative_nor_above_the_prediction() -> None:
    bounds = Bounds(
        np.array([0.0]), np.array([1.0]), np.array([0.5, -0.2, 1e6]), np.array([0.1, 2.0, -1.0])
    )
    assert bounds.lower(np.array([[0.3, 0.3, 0.9]])) == pytest.approx(np.array([[0.0, 0.3, 0.0]]))
    assert bounds.lower_of_means(np.array([0.3, 0.3, 0.9])) == pytest.approx([0.2, 0.0, 0.9])
