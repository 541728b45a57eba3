"""The ordinal classifier of harmless levels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from argus.control.learned.models import Harmless, Model
from argus.quality.fit.data import Floats
from argus.quality.fit.recipes import Training, standard, strategies

TOLERANCE = 0.01
"""Loss of relative quality that is no harm."""
STRENGTHS = (0.003, 0.03)
"""Inverse strengths of the penalty on weights."""
SURELY = 50.0
"""Bias of a border that all or none of the prompts are beyond."""


def labels(targets: Floats, order: list[int]) -> NDArray[np.int64]:
    """Return (n,) how many levels of an order, one after the other, did no harm.

    A picture that is missing ends the row as one that did harm.
    """
    harmless = targets[:, order] >= 1 - TOLERANCE
    return np.asarray(np.minimum.accumulate(harmless, axis=1).sum(axis=1))


def harmless_level(training: Training) -> Iterator[tuple[str, Model]]:
    """One logistic regression for each border between classes, for both strategies."""
    orders = strategies(training.levels, training.cost_s)
    if not orders:
        return
    rows = np.concatenate([training.inputs.prompts, training.inputs.nearness], axis=1)
    shift, scale = standard(rows)
    rows = (rows - shift) / scale
    count = len(training.levels)
    rank = np.full((len(orders), count), -1)
    rank[:, 0] = 0
    harmed = training.means
    for s, order in enumerate(orders):
        found = labels(training.targets, order)
        for place, i in enumerate(order):
            rank[s, i] = place + 1
            beyond = training.targets[found <= place, i]
            beyond = beyond[~np.isnan(beyond)]
            harmed[i] = beyond.mean() if len(beyond) else training.levels[i].quality
    most = max(len(order) for order in orders)
    for strength in STRENGTHS:
        weights = np.zeros((len(orders), most, rows.shape[1]))
        bias = np.full((len(orders), most), -SURELY)
        for s, order in enumerate(orders):
            found = labels(training.targets, order)
            for c in range(len(order)):
                weights[s, c], bias[s, c] = _border(rows, found > c, strength)
        yield f"C {strength:g}", Harmless(rank, shift, scale, weights, bias, harmed)


def _border(rows: Floats, above: NDArray[np.bool_], strength: float) -> tuple[Floats, float]:
    from sklearn.linear_model import LogisticRegression

    if above.all() or not above.any():
        return np.zeros(rows.shape[1]), SURELY if above.all() else -SURELY
    regression = LogisticRegression(C=strength, max_iter=500).fit(rows, above)
    return regression.coef_[0], float(regression.intercept_[0])
