"""Prompts with stated statistics: what each is worth at each level, and what a predictor says.

Of the published system only averages are known (Argus, arXiv 2511.06724): the mean quality of each
level, and how often each level is the deepest that does a prompt no harm. The model has no more
than they allow:

- a prompt's deepest harmless level `h` is drawn with the published shares;
- its quality is 1 up to there and `1 − s·(g_l − g_h)` at a deeper level `l`, with a slope `s` of
  its own, Gamma distributed with mean 1 and a variation of one half;
- the curve `g` is the one that makes the mean of every level equal to the published one, which
  determines it: level by level `loss_l = Σ_{h<l} p_h (g_l − g_h)` has one unknown;
- similarity to the nearest cached prompt follows the published quantiles and says nothing about
  `h`. That is not a choice: the published quality of the system that goes by similarity alone
  (96.9 %) is what independence gives;
- a predictor finds `h` with probability 0.85 and else a level near it: one off with weight 0.8, two
  with 0.15, three with 0.05, either way as far as there are levels. What it says is the quality of
  the level it found, at the mean slope.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from argus.errors import InvalidArgumentError

Floats = NDArray[np.float64]

PUBLISHED_QUALITIES = (1.0, 0.97046, 0.95808, 0.94378, 0.93235, 0.9152)
"""Mean relative quality of SDXL's levels that skip 0, 5, … 25 of 50 steps."""
HARMLESS_SHARES = (0.225, 0.426, 0.213, 0.046, 0.032, 0.059)
"""How often each of them is the deepest that is chosen, on 20,000 logged prompts."""
SIMILARITY_QUANTILES = (
    (0.01, 0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95, 0.99),
    (0.503, 0.573, 0.604, 0.657, 0.712, 0.784, 0.888, 0.965, 1.0),
)
ERROR_WEIGHTS = (0.8, 0.15, 0.05)
"""Of predictions that are wrong: by one level, two, three."""
SLOPE_SHAPE = 4.0
"""Of the Gamma distribution: its variation is one over the root of it."""


@dataclass(frozen=True, slots=True)
class DrawnPrompts:
    """Prompts as drawn.

    Attributes:
        similarity: (n,) cosine to the nearest cached prompt.
        quality: (n, levels) true relative quality.
        predicted: (n, levels) what the predictor says.
        harmless: (n,) deepest level without loss.
        guessed: (n,) what the predictor takes for it.
    """

    similarity: Floats
    quality: Floats
    predicted: Floats
    harmless: NDArray[np.int_]
    guessed: NDArray[np.int_]


def draw_prompts(
    count: int,
    seed: int,
    *,
    accuracy: float = 0.85,
    qualities: Sequence[float] = PUBLISHED_QUALITIES,
    shares: Sequence[float] = HARMLESS_SHARES,
) -> DrawnPrompts:
    """Return `count` prompts.

    Args:
        count: how many.
        seed: of everything that is drawn.
        accuracy: share of prompts whose harmless level the predictor finds; 1: it knows even the
            slopes.
        qualities: mean of each level, 1 first, falling.
        shares: of each level among prompts' deepest harmless ones; they are scaled to sum to 1.

    Raises:
        InvalidArgumentError: something is out of range.
    """
    if count < 1:
        raise InvalidArgumentError("count", f"must be at least 1, not {count}")
    if not 0 <= accuracy <= 1:
        raise InvalidArgumentError("accuracy", f"must be within 0 … 1, not {accuracy}")
    curve = loss_curve(qualities, shares)
    rng = np.random.default_rng(seed)
    levels = len(curve)
    p = np.asarray(shares, float) / np.sum(shares)
    harmless = rng.choice(levels, count, p=p)
    slope = rng.gamma(SLOPE_SHAPE, 1 / SLOPE_SHAPE, count)
    similarity = np.interp(
        rng.random(count), (0.0, *SIMILARITY_QUANTILES[0]), (0.4, *SIMILARITY_QUANTILES[1])
    )
    guessed = _guess(harmless, levels, accuracy, rng)
    quality = _quality(curve, harmless, slope)
    predicted = quality if accuracy == 1 else _quality(curve, guessed, np.ones(count))
    return DrawnPrompts(similarity, quality, predicted, harmless, guessed)


def loss_curve(qualities: Sequence[float], shares: Sequence[float]) -> Floats:
    """Return (levels,) the curve `g` of the module's text.

    Raises:
        InvalidArgumentError: qualities or shares are not what they should be. Where they are,
            the curve ascends.
    """
    means, p = np.asarray(qualities, float), np.asarray(shares, float)
    if len(means) < 2 or len(means) != len(p):
        raise InvalidArgumentError("shares", f"{len(means)} are needed, not {len(p)}")
    if means[0] != 1 or np.any(np.diff(means) > 0):
        raise InvalidArgumentError("qualities", f"must fall from 1, not {qualities}")
    if np.any(p < 0) or p[0] <= 0:
        raise InvalidArgumentError("shares", f"must not be below 0, the first above it: {shares}")
    p = p / p.sum()
    curve = np.zeros(len(means))
    for level in range(1, len(means)):
        worse = p[:level]
        curve[level] = (1 - means[level] + worse @ curve[:level]) / worse.sum()
    return curve


def _quality(curve: Floats, harmless: NDArray[np.int_], slope: Floats) -> Floats:
    beyond = np.maximum(0.0, curve[None, :] - curve[harmless][:, None])
    return 1.0 - beyond * slope[:, None]


def _guess(
    harmless: NDArray[np.int_], levels: int, accuracy: float, rng: np.random.Generator
) -> NDArray[np.int_]:
    """Return what a predictor takes for the harmless levels."""
    chances = np.zeros((levels, levels))
    for true in range(levels):
        for off, weight in enumerate(ERROR_WEIGHTS, start=1):
            for level in (true - off, true + off):
                if 0 <= level < levels:
                    chances[true, level] = weight
        chances[true] *= (1 - accuracy) / chances[true].sum()
        chances[true, true] = accuracy
    drawn = rng.random(len(harmless))
    below = (chances.cumsum(axis=1)[harmless] < drawn[:, None]).sum(axis=1)
    return np.asarray(below.clip(0, levels - 1), dtype=int)
