from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from argus.control.aligner import exact, greedy, is_monge
from argus.errors import InvalidArgumentError

PUBLISHED = (0.225, 0.426, 0.213, 0.046, 0.032, 0.058)
"""Prompts by harmless skip, to three digits and made to add up."""
QUALITY = (1.0, 0.97046, 0.95808, 0.94378, 0.93235, 0.9152)


def convex(count: int, power: float = 1.5) -> list[list[float]]:
    return [[max(0, j - i) ** power / 10 for j in range(count)] for i in range(count)]


def least_loss(predicted: list[float], planned: list[float], losses: list[list[float]]) -> float:
    count = len(predicted)
    rows, sums = [], []
    for i in range(count):
        rows.append([float(k // count == i) for k in range(count * count)])
        sums.append(predicted[i])
    for j in range(count - 1):
        rows.append([float(k % count == j) for k in range(count * count)])
        sums.append(planned[j])
    return float(linprog(np.ravel(losses), A_eq=rows, b_eq=sums).fun)


@st.composite
def shares(draw: st.DrawFn, count: int) -> list[float]:
    weights = draw(
        st.lists(st.sampled_from([0, 0, 1, 2, 3, 7, 40]), min_size=count, max_size=count)
    )
    total = sum(weights)
    return [w / total for w in weights] if total else [1.0, *[0.0] * (count - 1)]


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[float], list[float], list[list[float]]]:
    count = draw(st.integers(1, 6))
    steps = st.lists(st.integers(0, 9), min_size=count, max_size=count)
    losses = []
    for i in range(count):
        rises = [x / 100 for x in draw(steps)]
        losses.append([math.fsum(rises[i + 1 : j + 1]) for j in range(count)])
    return draw(shares(count)), draw(shares(count)), losses


@settings(max_examples=120, deadline=None, derandomize=True)
@given(cases())
def test_the_transport_meets_the_plan_at_the_least_loss(
    case: tuple[list[float], list[float], list[list[float]]],
) -> None:
    predicted, planned, losses = case
    found = exact(predicted, planned, losses)
    assert found.made(predicted) == pytest.approx(planned, abs=1e-7)
    assert all(math.fsum(row) == pytest.approx(1.0) for row in found.odds)
    assert found.loss == pytest.approx(least_loss(predicted, planned, losses), abs=1e-7)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(2, 6).flatmap(lambda n: st.tuples(shares(n), shares(n))), st.floats(1.0, 3.0))
def test_the_closed_form_is_optimal_for_monge_losses(
    case: tuple[list[float], list[float]], power: float
) -> None:
    predicted, planned = case
    losses = convex(len(predicted), power)
    assert is_monge(losses)
    found = exact(predicted, planned, losses)
    assert found.made(predicted) == pytest.approx(planned, abs=1e-9)
    assert found.loss == pytest.approx(least_loss(predicted, planned, losses), abs=1e-9)


def test_losses_that_level_off_are_not_monge_and_still_solved() -> None:
    losses = convex(4, power=0.3)
    assert not is_monge(losses)
    predicted, planned = [0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]
    assert exact(predicted, planned, losses).loss == pytest.approx(
        least_loss(predicted, planned, losses), abs=1e-9
    )


@settings(max_examples=300, deadline=None, derandomize=True)
@given(cases())
def test_the_published_greedy_applied_as_a_chain_meets_the_plan(
    case: tuple[list[float], list[float], list[list[float]]],
) -> None:
    predicted, planned, losses = case
    found = greedy(predicted, planned, losses)
    assert found.made(predicted) == pytest.approx(planned, abs=1e-9)
    for row in found.odds:
        assert min(row) >= 0.0
        assert math.fsum(row) == pytest.approx(1.0)
    assert found.loss >= exact(predicted, planned, losses).loss - 1e-9


def one_hop(predicted: list[float], planned: list[float]) -> list[float]:
    """Return what comes out when what a surplus hands on is not decided again: the wrong way."""
    current, made = list(predicted), [[float(i == j) for j in range(6)] for i in range(6)]
    for level in range(5, 0, -1):
        surplus = current[level] - planned[level]
        if surplus > 1e-12:
            made[level][level] -= surplus / current[level]
            made[level][level - 1] += surplus / current[level]
            current[level - 1] += surplus
            current[level] = planned[level]
        for donor in range(level - 1, -1, -1):
            taken = min(max(0.0, planned[level] - current[level]), current[donor])
            if taken > 0 and predicted[donor] > 0:
                made[donor][level] += taken / predicted[donor]
                made[donor][donor] -= taken / predicted[donor]
                current[donor] -= taken
                current[level] += taken
    return [sum(predicted[i] * made[i][j] for i in range(6)) for j in range(6)]


def test_composed_into_one_hop_the_greedy_misses_the_plan_in_many_mixed_cases() -> None:
    rng = random.Random(0)
    missed = 0
    for _ in range(400):
        raw = [[rng.random() for _ in range(6)] for _ in range(2)]
        predicted, planned = ([x / sum(row) for x in row] for row in raw)
        off = max(abs(a - b) for a, b in zip(one_hop(predicted, planned), planned, strict=True))
        missed += off > 1e-6
        chain = greedy(predicted, planned, convex(6)).made(predicted)
        assert chain == pytest.approx(planned, abs=1e-9)
    assert missed > 120


def test_a_donor_without_prompts_is_passed_over() -> None:
    found = greedy([0.5, 0.0, 0.5], [0.2, 0.0, 0.8], convex(3))
    assert found.odds[0] == pytest.approx((0.4, 0.0, 0.6))
    assert found.odds[1] == pytest.approx((0.0, 1.0, 0.0))
    assert found.made([0.5, 0.0, 0.5]) == pytest.approx((0.2, 0.0, 0.8))


def test_moving_to_safer_levels_loses_nothing() -> None:
    planned = (0.6, 0.4, 0.0, 0.0, 0.0, 0.0)
    for align in (exact, greedy):
        assert align(PUBLISHED, planned, convex(6)).loss == pytest.approx(0.0, abs=1e-12)


def test_a_sampled_chain_visits_levels_as_often_as_planned() -> None:
    planned = (0.1, 0.1, 0.2, 0.1, 0.2, 0.3)
    found = greedy(PUBLISHED, planned, convex(6))
    rng, count = random.Random(3), 40_000
    made = [0] * 6
    for level in rng.choices(range(6), PUBLISHED, k=count):
        made[rng.choices(range(6), found.odds[level])[0]] += 1
    assert [x / count for x in made] == pytest.approx(planned, abs=0.01)


def test_the_greedy_is_best_for_mean_losses_and_loses_where_far_moves_are_cheap() -> None:
    means = [[max(0.0, QUALITY[i] - QUALITY[j]) for j in range(6)] for i in range(6)]
    flattening = convex(6, power=0.5)
    worst = {"means": 0.0, "flattening": 0.0}
    for planned in itertools.permutations((0.05, 0.1, 0.15, 0.2, 0.2, 0.3)):
        for name, losses in (("means", means), ("flattening", flattening)):
            best, published = (align(PUBLISHED, planned, losses) for align in (exact, greedy))
            worst[name] = max(worst[name], published.loss - best.loss)
    assert worst["means"] < 1e-12
    assert worst["flattening"] > 0.03


@pytest.mark.parametrize(
    ("predicted", "planned", "field"),
    [
        ([1.0], [0.5, 0.5], "planned"),
        ([], [], "planned"),
        ([0.5, 0.6], [0.5, 0.5], "predicted"),
        ([0.5, 0.5], [1.5, -0.5], "planned"),
        ([0.5, math.nan], [0.5, 0.5], "predicted"),
    ],
)
def test_wrong_shares_are_named(predicted: list[float], planned: list[float], field: str) -> None:
    for align in (exact, greedy):
        with pytest.raises(InvalidArgumentError) as raised:
            align(predicted, planned, convex(len(predicted)))
        assert raised.value.field == field


def test_wrong_losses_are_named() -> None:
    for losses in ([[0.0]], [[0.0, math.inf], [0.0, 0.0]]):
        with pytest.raises(InvalidArgumentError, match="losses"):
            exact([0.5, 0.5], [0.5, 0.5], losses)
