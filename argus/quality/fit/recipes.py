"""How each kind of model is fitted; those with settings are fitted with several of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from argus.control.learned.features import Inputs
from argus.control.learned.models import Means, Model, Neighbours, Staircase
from argus.control.reuse import PUBLISHED
from argus.quality.fit.data import Floats
from argus.types import Level

JUST_ABOVE = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Training:
    """What a model is fitted to.

    Attributes:
        inputs: of n prompts.
        targets: (n, l) measured relative quality, NaN where there is none.
        levels: with their means over these prompts.
        cost_s: (l,).
        seed: of whatever is drawn by lot.
    """

    inputs: Inputs
    targets: Floats
    levels: tuple[Level, ...]
    cost_s: Floats
    seed: int = 0

    @property
    def means(self) -> Floats:
        """(l,) mean quality of each level."""
        return np.array([level.quality for level in self.levels])

    def residuals(self) -> tuple[NDArray[np.bool_], Floats]:
        """Return which of the n · l rows were measured, without the reference's, and how far off
        the level's mean those are."""
        off = (self.targets - self.means).ravel()
        first = np.tile(np.arange(len(self.levels)) == 0, len(self.targets))
        known = ~np.isnan(off) & ~first
        return known, off[known]


Recipe = Callable[[Training], Iterator[tuple[str, Model]]]
"""Fits a model and yields it with its settings, once for each of several settings."""


def level_means(training: Training) -> Iterator[tuple[str, Model]]:
    """What no prompt changes."""
    yield "", Means(training.means)


def published_thresholds(training: Training) -> Iterator[tuple[str, Model]]:
    """NIRVANA's rule (NSDI 2024): up to its K a state does no harm, beyond it the usual."""
    thresholds = dict(zip(PUBLISHED.fractions, PUBLISHED.similarities, strict=True))
    similarity = training.inputs.similarity
    corners, values = [], []
    for i, level in enumerate(training.levels):
        allowed = [s for share, s in thresholds.items() if share >= level.skip_fraction - 1e-9]
        if not level.skip_fraction or not allowed:
            corners.append([0.0, 1.0])
            values.append([level.quality] * 2)
            continue
        beyond = training.targets[similarity <= allowed[0], i]
        beyond = beyond[~np.isnan(beyond)]
        mean = float(beyond.mean()) if len(beyond) else level.quality
        corners.append([allowed[0], allowed[0] + JUST_ABOVE])
        values.append([mean, 1.0])
    yield "", Staircase(np.array(corners), np.array(values))


def learnt_thresholds(training: Training) -> Iterator[tuple[str, Model]]:
    """Quality that rises with similarity, by isotonic regression, level by level."""
    from sklearn.isotonic import IsotonicRegression

    stairs = []
    for i, level in enumerate(training.levels):
        known = ~np.isnan(training.targets[:, i])
        if not level.skip_fraction:
            stairs.append((np.array([0.0]), np.array([level.quality])))
            continue
        rising = IsotonicRegression(out_of_bounds="clip")
        rising.fit(training.inputs.similarity[known], training.targets[known, i])
        stairs.append((rising.X_thresholds_, rising.y_thresholds_))
    most = max(len(x) for x, _ in stairs)
    # Every staircase as long as the longest: its last corner is repeated.
    padded = [(np.pad(x, (0, most - len(x)), "edge"), np.pad(y, (0, most - len(y)), "edge"))
              for x, y in stairs]  # fmt: skip
    yield "", Staircase(np.array([x for x, _ in padded]), np.array([y for _, y in padded]))


def nearest_neighbours(training: Training) -> Iterator[tuple[str, Model]]:
    """The mean of the nearest prompts."""
    if training.inputs.embeddings is None:
        return
    for k in (8, 24, 64):
        for weight in (1.0, 10.0):
            yield (
                f"k {k}, similarity × {weight:g}",
                Neighbours(
                    training.targets,
                    training.inputs.embeddings,
                    training.inputs.similarity,
                    training.means,
                    np.array([k]),
                    np.array([weight]),
                    np.array([4.0]),
                ),
            )


def standard(rows: Floats) -> tuple[Floats, Floats]:
    """Return the mean and spread of columns; 1 for those that do not vary."""
    spread = rows.std(axis=0)
    return rows.mean(axis=0), np.where(spread > 1e-9, spread, 1.0)


def strategies(levels: Sequence[Level], cost_s: Floats) -> list[list[int]]:
    """Return the places of each strategy's levels, from the reference, which is left out, downward.

    One strategy continues states of the reference's schedule, later and later. The other has the
    levels that continue none and are worth their cost: no cheaper one is as good on average.
    """
    first = levels[0]
    states = [
        i
        for i, level in enumerate(levels)
        if level.skip_fraction
        and (level.variant, level.steps_fraction) == (first.variant, first.steps_fraction)
    ]
    states.sort(key=lambda i: levels[i].skip_fraction)
    plain = [i for i, level in enumerate(levels) if i and not level.skip_fraction]
    worth = [
        i
        for i in plain
        if cost_s[i] < cost_s[0]
        and not any(cost_s[k] < cost_s[i] and levels[k].quality >= levels[i].quality for k in plain)
    ]
    worth.sort(key=lambda i: -cost_s[i])
    return [order for order in (states, worth) if order]
