"""Gradient-boosted trees, by scikit-learn, as arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from argus.control.learned.models import Model, Trees
from argus.quality.fit.data import Floats
from argus.quality.fit.recipes import Training

DEPTHS = (2, 3, 4)
COUNTS = (40, 100, 200)
RATE, SHARE, FEATURES, LEAF = 0.05, 0.6, 0.3, 25
"""Step, share of rows and of features that a tree sees, and rows of its smallest leaf."""


def boosted_trees(training: Training) -> Iterator[tuple[str, Model]]:
    """Trees over every pair of a prompt and a level."""
    from sklearn.ensemble import GradientBoostingRegressor

    known, targets = training.residuals()
    rows = training.inputs.rows[known]
    for depth in DEPTHS:
        boosted = GradientBoostingRegressor(
            learning_rate=RATE,
            n_estimators=max(COUNTS),
            subsample=SHARE,
            max_depth=depth,
            max_features=FEATURES,
            min_samples_leaf=min(LEAF, max(1, len(rows) // 20)),
            init="zero",
            random_state=training.seed,
        )
        boosted.fit(rows, targets)
        for count in COUNTS:
            trees = [tree.tree_ for tree in boosted.estimators_[:count, 0]]
            yield f"{count} trees of depth {depth}", export(trees, RATE, training.means)


def export(trees: list[Any], rate: float, means: Floats) -> Trees:
    """Return scikit-learn's trees as arrays, filled up to the largest of them."""
    most = max(tree.node_count for tree in trees)

    def pad(values: Any, dtype: type, fill: float) -> Any:
        filled = np.full(most, fill, dtype=dtype)
        filled[: len(values)] = values
        return filled

    feature = [pad(np.maximum(t.feature, -1), np.int64, -1) for t in trees]
    return Trees(
        means,
        np.stack(feature),
        np.stack([pad(t.threshold, np.float64, 0.0) for t in trees]),
        np.stack([pad(np.maximum(t.children_left, 0), np.int64, 0) for t in trees]),
        np.stack([pad(np.maximum(t.children_right, 0), np.int64, 0) for t in trees]),
        np.stack([pad(rate * t.value[:, 0, 0], np.float64, 0.0) for t in trees]),
    )
