"""Orders among levels that predictions keep."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import isotonic_regression

from argus.control.learned.order import Chain, find_chains, lower_to_order, pool, settle
from argus.types import Level

LEVELS = (
    Level("base", "base", 1.0, 1.0),
    Level("half", "base", 0.5, 1.01),
    Level("tenth", "base", 0.1, 0.9),
    Level("skip-10", "base", 1.0, 0.95, 0.1),
    Level("skip-50", "base", 1.0, 0.8, 0.5),
    Level("small", "small", 1.0, 0.6),
    Level("small-tenth", "small", 0.1, 0.7),
)
CHAINS = find_chains(LEVELS, [level.quality for level in LEVELS], [1.0] * len(LEVELS))
rows = st.lists(
    st.lists(st.floats(0, 2), min_size=len(LEVELS), max_size=len(LEVELS)), min_size=1, max_size=4
).map(np.array)


@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0.1, 9)), min_size=1, max_size=12))
def test_pooled_means_are_the_isotonic_regression_of_scikit_learn(
    points: list[tuple[float, float]],
) -> None:
    means, weights = ([p[i] for p in points] for i in (0, 1))
    blocks = pool(means, weights)
    assert [i for block in blocks for i in block] == list(range(len(points)))
    pooled = np.concatenate(
        [
            np.full(len(b), np.average([means[i] for i in b], weights=[weights[i] for i in b]))
            for b in blocks
        ]
    )
    expected = isotonic_regression(means, sample_weight=weights, increasing=False)
    assert pooled == pytest.approx(expected, abs=1e-9)


def test_chains_follow_steps_and_states_and_stop_where_the_means_contradict() -> None:
    # Half the steps were measured to be no worse than all, and the small variant to be better
    # with fewer: no order is kept there, nor between variants.
    assert CHAINS == (((0, 1), (2,)), ((0,), (3,), (4,)))


def keeps(values: np.ndarray, chains: tuple[Chain, ...]) -> bool:
    pairs = [
        (i, k)
        for chain in chains
        for b, block in enumerate(chain)
        for later in chain[b + 1 :]
        for i in block
        for k in later
    ]
    return all((values[:, i] >= values[:, k] - 1e-12).all() for i, k in pairs)


@given(rows)
def test_settled_predictions_are_in_order_and_one_at_the_reference(values: np.ndarray) -> None:
    settled = settle(values, CHAINS)
    assert keeps(settled, CHAINS)
    assert (settled[:, 0] == 1.0).all()
    assert settle(settled, CHAINS) == pytest.approx(settled)
    # Nobody compares variants.
    assert (settled[:, 5:] == values[:, 5:]).all()


def test_predictions_in_order_are_left_alone() -> None:
    values = np.array([[1.0, 1.2, 0.9, 0.99, 0.5, 0.2, 0.8]])
    assert (settle(values, CHAINS) == values).all()


@given(rows)
def test_lowered_bounds_are_the_largest_in_order_below_the_given_ones(values: np.ndarray) -> None:
    lowered = lower_to_order(values, CHAINS)
    assert keeps(lowered, CHAINS)
    assert (lowered <= values).all()
    # Whatever was lowered equals something that must not be below it.
    for i, k in zip(*np.nonzero(lowered < values), strict=True):
        assert lowered[i, k] in values[i]
