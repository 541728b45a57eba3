"""The bundled family as measured: costs and scores from models/weights/profile, for the simulator.

Levels are those of the larger variant: all its steps, fewer steps, skipped steps. What a prompt is
worth at a level is its mean relative quality by facts over its repeats. Predictions are those of
the family's own predictor (models/weights/predictor), which the coordinator uses; runs are judged
on the test split, drawn with replacement, and the calibration split tells how wrong predictions
are.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from argus.config import CacheConfig, CoordinatorConfig
from argus.control.predictor import PromptView
from argus.control.profile import CostProfile, SizeCosts, VariantProfile
from argus.coordinator.embedder import open_embedder
from argus.coordinator.predictors import load_predictor
from argus.quality.matrix import ScoreMatrix
from argus.sim.types import Batching, PromptTable, SimLevel, SimProfile, VariantTimes

FOLDER = Path(__file__).parents[1] / "models" / "weights" / "profile"
VARIANT = "scenes-base"
STEPS = 50
SLO = 3.0
"""Deadline relative to what the reference level takes alone."""

Floats = NDArray[np.float64]


@cache
def batching() -> Batching:
    """Return what wider forwards of the variant take, relative to those of a row alone.

    Few lanes cost what the narrowest measured forward does: they are filled up to it, so that a
    picture does not depend on who shares its batch.
    """
    costs = _costs().steps
    lanes = tuple(range(2, costs.lanes[-1] + 1, 2))
    alone = costs.step_s(2)
    return Batching(lanes, tuple(costs.step_s(n) / alone for n in lanes))


@cache
def profile() -> SimProfile:
    """Return the ladder of the larger variant with its measured costs and qualities."""
    size, encode_s = _costs(), _variant().text_encode_s
    matrix, at = _matrix(), _levels()
    step_s = size.steps.step_s(2)
    means = _table("train")[1].mean(axis=0)
    levels = []
    for column, index in enumerate(at):
        level = matrix.levels[index]
        steps = round(STEPS * level.steps_fraction)
        skip = round(steps * level.skip_fraction)
        seconds = encode_s + (steps - skip) * step_s + size.decode_s
        quality = float(means[column])
        levels.append(SimLevel(level.name, VARIANT, skip, seconds, quality, steps - skip))
    times = VariantTimes(encode_s, size.decode_s, _variant().load_s)
    return SimProfile(tuple(levels), SLO * levels[0].seconds, batching(), variants={VARIANT: times})


def prompts(count: int, seed: int) -> PromptTable:
    """Return prompts of the test split, drawn with replacement."""
    similarity, quality, predicted = _table("test")
    rows = np.random.default_rng(seed).integers(0, len(quality), count)
    return PromptTable.numbered(similarity[rows], quality[rows], predicted[rows])


def scored() -> PromptTable:
    """Return the prompts of the calibration split."""
    return PromptTable.numbered(*_table("calibration"))


@cache
def _table(split: str) -> tuple[Floats, Floats, Floats]:
    """Return similarities, qualities and predictions (prompts, levels) of a split with scores."""
    matrix = _matrix()
    own = matrix.prompts
    relative = matrix.relative()[:, :, _levels()]
    defined = own.in_split(split) & np.isfinite(relative).any(axis=1).all(axis=1)
    quality = np.nanmean(relative[defined], axis=1)
    similarity = own.similarity[defined]
    texts = [text for text, there in zip(own.texts, defined, strict=True) if there]
    vectors = open_embedder(CacheConfig()).embed(texts)
    views = [
        PromptView(text, vector, None if np.isnan(near) else float(near))
        for text, vector, near in zip(texts, vectors, similarity, strict=True)
    ]
    expected = load_predictor(CoordinatorConfig()).predict(
        views, [matrix.levels[i] for i in _levels()]
    )
    return similarity, quality, np.array([[e.quality for e in row] for row in expected])


def _levels() -> list[int]:
    """Return the columns of the variant's levels, the reference first, then by fewer forwards."""
    levels = _matrix().levels
    own = [i for i, level in enumerate(levels) if level.variant == VARIANT]
    return sorted(own, key=lambda i: -levels[i].steps_fraction * (1 - levels[i].skip_fraction))


@cache
def _matrix() -> ScoreMatrix:
    return ScoreMatrix.read(FOLDER / "scores.parquet")


@cache
def _variant() -> VariantProfile:
    path = FOLDER / "costs.json"
    found = CostProfile.from_json(path.read_text(encoding="utf-8"), str(path))
    return next(v for v in found.variants if v.name == VARIANT)


def _costs() -> SizeCosts:
    return _variant().sizes[0]
