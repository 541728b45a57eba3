"""What can be learned of prompts and levels, as arrays, and how each answers.

A model is given `Inputs` of n prompts and returns (n, l) relative qualities. How each is fitted
is in argus/quality/fit; here is what runs when a request is served.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from argus.control.learned.features import Inputs

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]
Arrays = Mapping[str, NDArray[np.generic]]


class Model(Protocol):
    """Predicts (n, l) relative qualities."""

    kind: ClassVar[str]

    def __call__(self, inputs: Inputs) -> Floats:
        """Return the expected relative quality of each prompt at each level."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Means:
    """The mean of each level, (l,)."""

    kind: ClassVar[str] = "means"
    means: Floats

    def __call__(self, inputs: Inputs) -> Floats:
        """Return the same row for every prompt."""
        return np.tile(self.means, (len(inputs.prompts), 1))


@dataclass(frozen=True, slots=True, eq=False)
class Staircase:
    """Quality by similarity where a level continues a state, else the level's mean.

    `similarities` and `qualities` are (l, k): corners of each level's staircase, ascending. Between
    two corners the value is interpolated, beyond the outer ones it stays.
    """

    kind: ClassVar[str] = "staircase"
    similarities: Floats
    qualities: Floats

    def __call__(self, inputs: Inputs) -> Floats:
        """Return each level's staircase at the prompts' similarities."""
        rows = zip(self.similarities, self.qualities, strict=True)
        columns = [np.interp(inputs.similarity, x, y) for x, y in rows]
        return np.stack(columns, axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """The mean of the k nearest prompts that were measured (Fix and Hodges, 1951).

    `qualities` is (m, l), NaN where a picture is missing; `embeddings` (m, d); `similarity` (m,).
    Where a level continues a state, prompts also differ by how near their neighbour is, times
    `weight`. `means` (l,) counts as `prior` more prompts.
    """

    kind: ClassVar[str] = "neighbours"
    qualities: Floats
    embeddings: Floats
    similarity: Floats
    means: Floats
    k: Whole
    weight: Floats
    prior: Floats

    def __call__(self, inputs: Inputs) -> Floats:
        """Return the neighbours' means."""
        if inputs.embeddings is None:
            return Means(self.means)(inputs)
        away = 2.0 - 2.0 * inputs.embeddings @ self.embeddings.T
        apart = (inputs.similarity[:, None] - self.similarity[None]) ** 2
        plain = self._mean(away)
        near = self._mean(away + self.weight[0] * apart)
        return np.where(inputs.continues, near, plain)

    def _mean(self, distances: Floats) -> Floats:
        k = min(int(self.k[0]), len(self.qualities))
        nearest = np.argpartition(distances, k - 1, axis=1)[:, :k]
        found = self.qualities[nearest]
        there = ~np.isnan(found)
        total = np.where(there, found, 0.0).sum(axis=1) + self.prior[0] * self.means
        return np.asarray(total / (there.sum(axis=1) + self.prior[0]))


@dataclass(frozen=True, slots=True, eq=False)
class Trees:
    """Gradient-boosted regression trees (Friedman, Annals of Statistics 29, 2001) over rows.

    (t, m) arrays of m nodes each: `feature` −1 at leaves, `value` times the learning rate there.
    What the trees add up to is added to `means` (l,).
    """

    kind: ClassVar[str] = "trees"
    means: Floats
    feature: Whole
    threshold: Floats
    left: Whole
    right: Whole
    value: Floats

    def __call__(self, inputs: Inputs) -> Floats:
        """Return the levels' means and what the trees add."""
        # scikit-learn compares float32 features with float64 thresholds.
        rows = inputs.rows.astype(np.float32)
        trees, nodes = self.feature.shape
        feature, threshold = self.feature.ravel(), self.threshold.ravel()
        first = np.arange(trees) * nodes
        left, right = ((c + first[:, None]).ravel() for c in (self.left, self.right))
        place = np.tile(first, (len(rows), 1))
        index = np.arange(len(rows))[:, None]
        while True:
            split = feature[place]
            inside = split >= 0
            if not inside.any():
                break
            goes_left = rows[index, np.maximum(split, 0)] <= threshold[place]
            place = np.where(inside, np.where(goes_left, left[place], right[place]), place)
        added = self.value.ravel()[place].sum(axis=1)
        return self.means + added.reshape(-1, len(self.means))


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """An ensemble of networks with one hidden layer of rectified units, over rows.

    `shift` and `scale` (f,) standardise; `inner` (e, f, h), `inner_bias` (e, h), `outer` (e, h),
    `outer_bias` (e,). The mean of the ensemble is added to `means` (l,).
    """

    kind: ClassVar[str] = "network"
    means: Floats
    shift: Floats
    scale: Floats
    inner: Floats
    inner_bias: Floats
    outer: Floats
    outer_bias: Floats

    def __call__(self, inputs: Inputs) -> Floats:
        """Return the levels' means and what the networks add."""
        rows = (inputs.rows - self.shift) / self.scale
        hidden = np.maximum(rows @ self.inner + self.inner_bias[:, None, :], 0.0)
        added = (hidden @ self.outer[:, :, None])[:, :, 0] + self.outer_bias[:, None]
        return self.means + added.mean(axis=0).reshape(-1, len(self.means))


@dataclass(frozen=True, slots=True, eq=False)
class Harmless:
    """The most approximate level that does no harm, by ordinal classification, for each strategy.

    (Argus, arXiv 2511.06724, has such a classifier; its form here, one logistic regression for
    each border between classes, is that of Frank and Hall, ECML 2001.) `rank` (s, l): place of a
    level in the order of a strategy, 0 for the reference, −1 where it is not part of it. `weights`
    (s, c, f + 3) and `bias` (s, c): of the borders. A level up to the predicted class is as good
    as the reference, beyond it as bad as it was on average where it did harm, `harmed` (l,); so is
    a level that is part of no strategy, always.
    """

    kind: ClassVar[str] = "harmless"
    rank: Whole
    shift: Floats
    scale: Floats
    weights: Floats
    bias: Floats
    harmed: Floats

    def classes(self, inputs: Inputs) -> Whole:
        """Return (n, s): the last place of each strategy's order that is held to be harmless."""
        rows = np.concatenate([inputs.prompts, inputs.nearness], axis=1)
        rows = (rows - self.shift) / self.scale
        above = np.einsum("nf,scf->nsc", rows, self.weights) + self.bias > 0
        return np.asarray(np.minimum.accumulate(above, axis=2).sum(axis=2))

    def __call__(self, inputs: Inputs) -> Floats:
        """Return 1 where no harm is expected, else what harm amounted to."""
        found = self.classes(inputs)
        up_to = self.rank[None] <= found[:, :, None]
        ranked = self.rank >= 0
        harmless = (up_to | ~ranked).all(axis=1) & ranked.any(axis=0)
        return np.where(harmless, 1.0, self.harmed)


KINDS: dict[str, type[Model]] = {
    kind.kind: kind for kind in (Means, Staircase, Neighbours, Trees, Network, Harmless)
}


def arrays_of(model: Model) -> dict[str, NDArray[np.generic]]:
    """Return a model's arrays by name."""
    return {field.name: getattr(model, field.name) for field in fields(model)}  # type: ignore[arg-type]
