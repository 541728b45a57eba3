"""A profile as predictors are fitted to it: arrays by prompt, repeat and level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from argus.control.predictor import PromptView
from argus.errors import ConfigError
from argus.quality.matrix import ScoreMatrix
from argus.types import Level

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
TRAIN, CALIBRATION, TEST = "train", "calibration", "test"
LEAST = {TRAIN: 20, CALIBRATION: 9, TEST: 2}
"""Fewest prompts of each split; with fewer than nine no bound holds nine times in ten."""


class Embedder(Protocol):
    """A text encoder; see argus.cache.embedder."""

    @property
    def name(self) -> str:
        """Name that changes with the weights."""
        ...

    def embed(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Return one vector of length 1 a prompt, (n, dimension)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class FitData:
    """What was measured of n prompts.

    Attributes:
        prompts: with embedding and similarity where there are any.
        splits, groups: (n,) names; what is of one group is never divided.
        levels: the reference first, as the matrix has them.
        scores: (n, repeats, l) of the main column, NaN where a picture is missing.
        relative: (n, repeats, l) relative quality, NaN where it is not defined.
        cost_s: (l,) device seconds of a picture.
        neighbour_scores: (n,) reference score of each prompt's neighbour, NaN where unknown.
        profile: fingerprint of the matrix.
        embedder: name of what embedded; empty where nothing did.
    """

    prompts: tuple[PromptView, ...]
    splits: NDArray[np.str_]
    groups: NDArray[np.str_]
    levels: tuple[Level, ...]
    scores: Floats
    relative: Floats
    cost_s: Floats
    neighbour_scores: Floats
    profile: str
    embedder: str

    def __len__(self) -> int:
        return len(self.prompts)

    def where(self, which: Flags) -> FitData:
        """Return the part of some prompts."""
        return replace(
            self,
            prompts=tuple(p for p, own in zip(self.prompts, which, strict=True) if own),
            splits=self.splits[which],
            groups=self.groups[which],
            scores=self.scores[which],
            relative=self.relative[which],
            neighbour_scores=self.neighbour_scores[which],
        )

    def split(self, name: str) -> FitData:
        """Return the part of one split."""
        return self.where(self.splits == name)

    @property
    def targets(self) -> Floats:
        """(n, l) mean relative quality over the repeats, NaN where there is none."""
        return mean_where(self.relative, axis=1)

    @property
    def embeddings(self) -> Floats:
        """(n, d); of data whose prompts have one."""
        return np.array([p.embedding for p in self.prompts], dtype=np.float64)


def mean_where(values: Floats, axis: int) -> Floats:
    """Return the mean of what is not NaN, NaN where there is nothing."""
    there = ~np.isnan(values)
    count = there.sum(axis=axis)
    total = np.where(there, values, 0.0).sum(axis=axis)
    return np.where(count, total / np.maximum(count, 1), np.nan)


def read_data(
    matrix: ScoreMatrix,
    neighbours: ScoreMatrix | None,
    cost_s: Sequence[float],
    embedder: Embedder | None,
) -> FitData:
    """Return a profile's matrix as fit data.

    Args:
        matrix: the scores.
        neighbours: of the cached prompts; None without.
        cost_s: (l,) device seconds of a picture at each level.
        embedder: of the prompts, the one the matrix's similarities are of; None: none is used.

    Raises:
        ConfigError: a split has too few prompts, a level has no picture, or the embedder is another
            than that of the matrix.
    """
    names = matrix.prompts
    if embedder is not None and matrix.header.embedder not in ("", embedder.name):
        raise ConfigError(
            f"embedder: the profile's similarities are of {matrix.header.embedder}, "
            f"not of {embedder.name}"
        )
    for split, least in LEAST.items():
        if (found := names.splits.count(split)) < least:
            raise ConfigError(f"split: at least {least} {split} prompts are needed, not {found}")
    vectors = None if embedder is None else _embed(embedder, names.texts)
    own = {} if neighbours is None else _own_scores(neighbours)
    data = FitData(
        prompts=tuple(
            PromptView(
                text,
                None if vectors is None else vectors[i],
                None if np.isnan(near) else float(near),
            )
            for i, (text, near) in enumerate(zip(names.texts, names.similarity, strict=True))
        ),
        splits=np.array(names.splits),
        groups=np.array([g or i for g, i in zip(names.groups, names.ids, strict=True)]),
        levels=matrix.levels,
        scores=matrix.scores(),
        relative=matrix.relative(),
        cost_s=np.array(cost_s, dtype=np.float64),
        neighbour_scores=np.array([own.get(name, np.nan) for name in names.neighbours]),
        profile=matrix.fingerprint(),
        embedder="" if embedder is None else embedder.name,
    )
    for split in LEAST:
        for level, column in zip(data.levels, data.split(split).targets.T, strict=True):
            if np.isnan(column).all():
                raise ConfigError(f"level: {level.name} has no picture of a {split} prompt")
    return data


def _own_scores(neighbours: ScoreMatrix) -> dict[str, float]:
    scores = mean_where(neighbours.scores()[:, :, 0], axis=1)
    return dict(zip(neighbours.prompts.ids, scores.tolist(), strict=True))


def _embed(embedder: Embedder, texts: Sequence[str], batch: int = 32) -> NDArray[np.float32]:
    parts = [embedder.embed(texts[i : i + batch]) for i in range(0, len(texts), batch)]
    return np.concatenate(parts)
