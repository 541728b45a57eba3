"""Choices at a budget are those of the linear program."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.optimize import linprog

from argus.control.reuse import choose_skip
from argus.quality.fit.budget import move_thresholds, spend, uniform

COST = np.array([1.0, 0.9, 0.55, 0.5, 0.12])


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("rounded", [False, True])
def test_the_price_finds_what_the_linear_program_finds(seed: int, rounded: bool) -> None:
    rng = np.random.default_rng(seed)
    quality = rng.uniform(0, 1.2, (9, len(COST)))
    if rounded:  # many ties
        quality = np.round(4 * quality) / 4
    for budget in (0.12, 0.3, 0.5, 0.77, 1.0):
        shares = spend(quality, COST, budget)
        assert shares is not None
        assert shares.sum(axis=1) == pytest.approx(1.0)
        assert (shares >= 0).all()
        assert (shares @ COST).mean() <= budget + 1e-9
        best = linprog(
            -quality.ravel(),
            A_ub=np.tile(COST, 9)[None] / 9,
            b_ub=[budget],
            A_eq=np.kron(np.eye(9), np.ones(len(COST))),
            b_eq=np.ones(9),
        )
        assert (shares * quality).sum() == pytest.approx(-best.fun, abs=1e-6)


def test_unmixed_choices_are_those_of_brute_force() -> None:
    rng = np.random.default_rng(5)
    quality = rng.uniform(0, 1, (4, len(COST)))
    choices = np.array(list(product(range(len(COST)), repeat=4)))
    spent = COST[choices].mean(axis=1)
    value = quality[np.arange(4)[None], choices].sum(axis=1)
    for choice, budget, reached in zip(choices, spent, value, strict=True):
        shares = spend(quality, COST, budget)
        assert shares is not None
        found = (shares * quality).sum()
        # A mixture is at least as good as the best whole choice, of which this is one.
        assert found >= value[spent <= budget].max() - 1e-9 >= reached - 2e-9, choice


def test_who_has_no_use_for_the_budget_leaves_it() -> None:
    quality = np.array([[1.0, 1.0, 0.5, 1.0, 0.2]])
    shares = spend(quality, COST, 1.0)
    assert shares is not None
    assert shares.tolist() == [[0, 0, 0, 1, 0]]


def test_a_budget_below_the_cheapest_level_cannot_be_met() -> None:
    assert spend(np.ones((2, len(COST))), COST, 0.11) is None
    assert uniform(2, COST, 0.11) is None
    assert move_thresholds(np.ones(2), np.array([0, 0.1]), np.array([1.0, 0.9]), 0.8) is None


@pytest.mark.parametrize("budget", [0.12, 0.4, 0.614, 0.9, 1.0])
def test_every_level_alike_is_mixed_so_that_the_budget_is_met(budget: float) -> None:
    shares = uniform(3, COST, budget)
    assert shares is not None
    assert shares.sum(axis=1) == pytest.approx(1.0)
    assert (shares @ COST).mean() == pytest.approx(budget)


def test_moved_thresholds_meet_the_budget_and_unmoved_are_the_published_rule() -> None:
    rng = np.random.default_rng(1)
    similarity = rng.uniform(0.4, 1.0, 50)
    skips = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    cost = 1 - 0.95 * skips
    for budget in (0.6, 0.75, 0.9):
        shares = move_thresholds(similarity, skips, cost, budget)
        assert shares is not None
        assert (shares @ cost).mean() == pytest.approx(budget)
    rule = np.array([choose_skip(s, 50, (5, 10, 15, 20, 25)) / 50 for s in similarity])
    shares = move_thresholds(similarity, skips, cost, (1 - 0.95 * rule).mean())
    assert shares is not None
    assert shares @ skips == pytest.approx(rule, abs=1e-6)
