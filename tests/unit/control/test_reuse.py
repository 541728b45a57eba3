from __future__ import annotations

import numpy as np
import pytest

from argus.control.reuse import (
    PUBLISHED,
    RetrievalTimes,
    SimilarityThresholds,
    checkpoint_steps,
    choose_skip,
    pays,
)
from argus.errors import InvalidArgumentError

ALL = (5, 10, 15, 20, 25)


@pytest.mark.parametrize(
    ("similarity", "skip"),
    [(-1.0, 0), (0.65, 0), (0.651, 5), (0.75, 5), (0.751, 10), (0.85, 10), (0.851, 15),
     (0.90, 15), (0.901, 20), (0.95, 20), (0.951, 25), (1.0, 25)],
)  # fmt: skip
def test_of_fifty_steps_the_published_ones_are_skipped(similarity: float, skip: int) -> None:
    assert choose_skip(similarity, 50, ALL) == skip


def test_other_step_counts_keep_the_fractions() -> None:
    assert checkpoint_steps(50) == ALL
    assert checkpoint_steps(20) == (2, 4, 6, 8, 10)
    assert checkpoint_steps(100) == (10, 20, 30, 40, 50)
    assert checkpoint_steps(4) == (1, 2)
    assert checkpoint_steps(1) == ()
    assert choose_skip(0.96, 20, checkpoint_steps(20)) == 10
    assert choose_skip(0.80, 30, checkpoint_steps(30)) == 6


@pytest.mark.parametrize("steps", range(1, 201))
def test_no_more_is_skipped_than_was_found_harmless(steps: int) -> None:
    for similarity in (0.66, 0.76, 0.86, 0.91, 0.96):
        skip = choose_skip(similarity, steps, range(steps + 10))
        assert skip < steps
        assert skip <= PUBLISHED(similarity) * steps + 1e-9
        assert skip + 1 > PUBLISHED(similarity) * steps or skip == steps - 1


def test_the_largest_stored_k_that_is_harmless_is_taken() -> None:
    assert choose_skip(0.97, 50, (5, 20)) == 20
    assert choose_skip(0.86, 50, (5, 20)) == 5
    assert choose_skip(0.70, 50, (10, 20)) == 0
    assert choose_skip(0.97, 50, ()) == 0


def test_a_learned_function_takes_the_place_of_the_thresholds() -> None:
    assert choose_skip(0.5, 50, ALL, lambda similarity: 0.42) == 20
    assert choose_skip(0.99, 50, ALL, lambda similarity: 0.0) == 0
    assert choose_skip(0.99, 50, (49, 50, 60), lambda similarity: 1.0) == 49


@pytest.mark.parametrize(
    ("similarities", "fractions"),
    [((), ()), ((0.5, 0.4), (0.1, 0.2)), ((0.5, 0.6), (0.2, 0.1)), ((0.5,), (0.1, 0.2)),
     ((0.5,), (0.0,)), ((0.5,), (1.0,))],
)  # fmt: skip
def test_thresholds_that_are_none_are_refused(
    similarities: tuple[float, ...], fractions: tuple[float, ...]
) -> None:
    with pytest.raises(InvalidArgumentError, match="thresholds"):
        SimilarityThresholds(similarities, fractions)


def test_a_state_pays_while_fetching_takes_less_than_the_steps() -> None:
    assert pays(5, 0.084, 0.35)
    assert not pays(4, 0.084, 0.35)
    assert not pays(0, 0.084, 0.0)


def test_quantiles_agree_with_numpy_over_the_last_fetches() -> None:
    times = RetrievalTimes(window=100)
    seconds = np.random.default_rng(1).exponential(0.01, 250)
    for value in seconds:
        times.add("local", float(value))
    times.add("server", 3.0)
    for share in (0.0, 0.25, 0.5, 0.9, 0.99):
        expected = np.quantile(seconds[-100:], share, method="inverted_cdf")
        higher = np.sort(seconds[-100:])[min(99, int(share * 100))]
        assert expected <= times.quantile("local", share) == higher
    assert times.quantile("server", 0.5) == 3.0
    assert times.quantile("memory", 0.5) is None
    assert times.tiers() == ("local", "server")


def test_what_cannot_be_asked_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="share"):
        RetrievalTimes().quantile("local", 1.5)
    with pytest.raises(InvalidArgumentError, match="window"):
        RetrievalTimes(0)
