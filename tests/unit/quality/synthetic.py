"""A profile that nobody measured, drawn from a truth that a test knows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from argus.control.predictor import PromptView
from argus.quality.fit.data import FitData
from argus.types import Level

COLOURS = ("red", "green", "blue", "yellow")
SHAPES = ("circle", "square", "triangle", "cross")
LEVELS = (
    Level("base", "base", 1.0, 1.0),
    Level("base-half", "base", 0.5, 1.0),
    Level("base-tenth", "base", 0.1, 0.9),
    Level("base-skip-10", "base", 1.0, 0.9, 0.1),
    Level("base-skip-30", "base", 1.0, 0.9, 0.3),
    Level("base-skip-50", "base", 1.0, 0.9, 0.5),
    Level("small", "small", 1.0, 0.8),
    Level("small-tenth", "small", 0.1, 0.7),
)
COST_S = np.array([1.0, 0.51, 0.12, 0.91, 0.71, 0.51, 0.4, 0.06])
DIMENSION = 12
FACTS = 8
"""Of each prompt; a picture's score is the share of them that it shows."""


@dataclass(frozen=True)
class Truth:
    """Chance of each fact at each level, (n, l), and the data that were drawn with it."""

    chance: NDArray[np.float64]
    data: FitData


def draw(n: int = 240, test_repeats: int = 4, seed: int = 0) -> Truth:
    """Draw prompts and pictures.

    Triangles suffer from few steps and from the small variant, and far neighbours from every
    skipped step; the rest is noise.
    """
    rng = np.random.default_rng(seed)
    axes = {w: rng.normal(size=DIMENSION) for w in (*COLOURS, *SHAPES)}
    prompts, chances = [], []
    for i in range(n):
        parts = [(rng.choice(COLOURS), rng.choice(SHAPES)) for _ in range(1 + i % 2)]
        text = "a " + " and a ".join(f"{colour} {shape}" for colour, shape in parts)
        vector = sum(axes[w] for part in parts for w in part) + 0.05 * rng.normal(size=DIMENSION)
        vector = np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)
        similarity = float(rng.uniform(0.5, 1.0))
        prompts.append(PromptView(text, vector, similarity))
        chances.append(_chances(sum(shape == "triangle" for _, shape in parts), similarity))
    chance = np.array(chances)
    splits = np.array(["train", "calibration", "test"])[
        np.searchsorted([0.6, 0.8], np.arange(n) / n, "right")
    ]
    repeats = max(1, test_repeats)
    scores = rng.binomial(FACTS, chance[:, None], size=(n, repeats, len(LEVELS))) / FACTS
    scores[splits != "test", 1:] = np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(scores[:, :, :1] > 0, scores / scores[:, :, :1], np.nan)
    data = FitData(
        prompts=tuple(prompts),
        splits=splits,
        groups=np.array([p.text for p in prompts]),
        levels=LEVELS,
        scores=scores,
        relative=relative,
        cost_s=COST_S,
        neighbour_scores=np.full(n, np.nan),
        profile="0123456789abcdef",
        embedder="words@1",
    )
    return Truth(chance, data)


def _chances(triangles: int, similarity: float) -> list[float]:
    away = 1 - similarity
    chances = []
    for level in LEVELS:
        chance = 0.96 - 1.6 * away * level.skip_fraction
        chance -= 0.25 * triangles * (level.steps_fraction < 0.2)
        chance -= (0.05 + 0.25 * triangles) * (level.variant == "small")
        chances.append(float(np.clip(chance, 0.05, 1.0)))
    return chances
