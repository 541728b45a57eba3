"""Drawn prompts have the published averages and the stated errors."""

from __future__ import annotations

import numpy as np
import pytest

from argus.errors import InvalidArgumentError
from argus.sim.prompts import (
    ERROR_WEIGHTS,
    HARMLESS_SHARES,
    PUBLISHED_QUALITIES,
    draw_prompts,
    loss_curve,
)

MANY = 100_000


def test_levels_have_the_published_means() -> None:
    drawn = draw_prompts(MANY, seed=1)
    error = drawn.quality.std(axis=0) / MANY**0.5
    assert np.all(np.abs(drawn.quality.mean(axis=0) - PUBLISHED_QUALITIES) <= 4 * error + 1e-12)


def test_harmless_levels_are_harmless_and_the_next_is_not() -> None:
    drawn = draw_prompts(1000, seed=2)
    for i, level in enumerate(drawn.harmless):
        assert np.all(drawn.quality[i, : level + 1] == 1)
        assert np.all(np.diff(drawn.quality[i, level:]) < 0)


def test_harmless_levels_have_the_published_shares() -> None:
    shares = np.bincount(draw_prompts(MANY, seed=3).harmless) / MANY
    wanted = np.array(HARMLESS_SHARES) / sum(HARMLESS_SHARES)
    assert np.all(np.abs(shares - wanted) < 4 * np.sqrt(wanted * (1 - wanted) / MANY))


def test_going_by_similarity_alone_gives_the_published_quality() -> None:
    drawn = draw_prompts(MANY, seed=4)
    level = np.searchsorted([0.65, 0.75, 0.85, 0.9, 0.95], drawn.similarity)
    assert drawn.quality[np.arange(MANY), level].mean() == pytest.approx(0.969, abs=0.001)


def test_predictions_are_wrong_as_often_and_as_far_as_stated() -> None:
    drawn = draw_prompts(MANY, seed=5)
    off = np.abs(drawn.harmless - drawn.guessed)
    assert np.mean(off == 0) == pytest.approx(0.85, abs=0.005)
    middle = off[np.isin(drawn.harmless, (2, 3))]  # two levels and more on either side
    assert np.mean(middle == 1) > 5 * np.mean(middle == 2) > 0
    assert off.max() == len(ERROR_WEIGHTS)


def test_perfect_predictions_are_the_truth() -> None:
    drawn = draw_prompts(100, seed=6, accuracy=1.0)
    assert np.array_equal(drawn.predicted, drawn.quality)


def test_a_seed_draws_the_same_prompts() -> None:
    one, same, other = (draw_prompts(50, seed=seed) for seed in (7, 7, 8))
    assert np.array_equal(one.quality, same.quality)
    assert not np.array_equal(one.quality, other.quality)


@pytest.mark.parametrize(
    ("field", "qualities", "shares"),
    [
        ("qualities", (0.9, 0.8), (0.5, 0.5)),
        ("qualities", (1.0, 0.8, 0.9), (0.3, 0.3, 0.4)),
        ("shares", (1.0, 0.8), (0.5,)),
        ("shares", (1.0, 0.8), (0.0, 1.0)),
    ],
)
def test_what_has_no_curve_is_refused(
    field: str, qualities: tuple[float, ...], shares: tuple[float, ...]
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        loss_curve(qualities, shares)
    assert caught.value.field == field
