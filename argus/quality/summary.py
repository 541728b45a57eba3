"""What a profile says of each level, with how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from argus.quality.matrix import ScoreMatrix

Floats = NDArray[np.float64]
BANDS = (-1.0, 0.5, 0.65, 0.75, 0.85, 0.9, 0.95, 0.99, 1.01)
"""Edges of bands of similarity."""
DRAWS = 2000
SURE = 0.95


@dataclass(frozen=True, slots=True)
class LevelSummary:
    """One level.

    Attributes:
        name: of the level.
        pictures: that were scored.
        missed: pictures that were to continue a state and had to run every step.
        score: mean of the main column.
        quality: mean relative quality: over prompts, of each prompt's mean over its repeats.
        low, high: 95 % interval of that mean, by resampling prompts.
        unharmed: share of pictures that score no less than the reference level's from the same
            noise.
        undefined: pictures whose relative quality is not defined, as the reference scored 0.
        cost_s: device seconds of one picture in full batches; NaN where costs were not measured.
        efficient: whether no other level is better and costs no more.
        verdict: how it compares with the reference level, in words.
    """

    name: str
    pictures: int
    missed: int
    score: float
    quality: float
    low: float
    high: float
    unharmed: float
    undefined: int
    cost_s: float
    efficient: bool
    verdict: str


@dataclass(frozen=True, slots=True)
class SeedNoise:
    """What the noise a picture starts from does to its score, at the reference level.

    Attributes:
        prompts: that were repeated.
        within: standard deviation of a score over repeats of one prompt, pooled.
        between: standard deviation of prompts' means.
        of_a_prompt: standard error of one prompt's relative quality at a level, from one repeat:
            smaller differences between levels are noise for a single prompt.
    """

    prompts: int
    within: float
    between: float
    of_a_prompt: float


def summarise(
    matrix: ScoreMatrix, cost_s: Sequence[float] | None = None, seed: int = 0
) -> tuple[LevelSummary, ...]:
    """Return a summary of each level, in the ladder's order.

    Args:
        matrix: the scores.
        cost_s: (levels,) device seconds; None where they were not measured.
        seed: of the resampling.
    """
    scores, relative = matrix.scores(), matrix.relative()
    costs = np.full(len(matrix.levels), np.nan) if cost_s is None else np.asarray(cost_s)
    asked = _asked(matrix)
    means = _prompt_means(relative)
    intervals = [_interval(means[:, i], seed) for i in range(len(matrix.levels))]
    quality = [float(np.nanmean(means[:, i])) for i in range(len(matrix.levels))]
    summaries = []
    for i, level in enumerate(matrix.levels):
        own, base = scores[:, :, i], scores[:, :, 0]
        both = np.isfinite(own) & np.isfinite(base)
        pictures = int(np.isfinite(own).sum())
        low, high = intervals[i]
        summaries.append(
            LevelSummary(
                name=level.name,
                pictures=pictures,
                missed=asked[i] - pictures,
                score=float(np.nanmean(own)),
                quality=quality[i],
                low=low,
                high=high,
                unharmed=float(np.mean(own[both] >= base[both])),
                undefined=int((both & ~np.isfinite(relative[:, :, i])).sum()),
                cost_s=float(costs[i]),
                efficient=_efficient(i, quality, costs),
                verdict=_verdict(i, low, high),
            )
        )
    return tuple(summaries)


def seed_noise(matrix: ScoreMatrix, level: int = 0) -> SeedNoise | None:
    """Return the effect of the seed; None where no prompt was repeated."""
    scores = matrix.scores()[:, :, level]
    repeated = np.isfinite(scores).sum(axis=1) > 1
    if not repeated.any():
        return None
    within = np.nanvar(scores[repeated], axis=1, ddof=1)
    relative = matrix.relative()[repeated][:, :, 1:]
    with np.errstate(invalid="ignore"):
        spread = np.nanvar(relative, axis=1, ddof=1)
    return SeedNoise(
        prompts=int(repeated.sum()),
        within=float(np.sqrt(within.mean())),
        between=float(np.nanmean(scores[repeated], axis=1).std(ddof=1)),
        of_a_prompt=float(np.sqrt(np.nanmean(spread))),
    )


def by_kind(matrix: ScoreMatrix) -> dict[str, tuple[int, Floats]]:
    """Return prompts and (levels,) mean relative quality of each kind of prompt."""
    means = _prompt_means(matrix.relative())
    kinds = np.array(matrix.prompts.kinds)
    return {
        str(kind): (int((kinds == kind).sum()), np.nanmean(means[kinds == kind], axis=0))
        for kind in np.unique(kinds)
    }


def by_similarity(matrix: ScoreMatrix) -> dict[str, tuple[int, Floats]]:
    """Return prompts and (levels,) mean relative quality by similarity to the nearest neighbour."""
    means = _prompt_means(matrix.relative())
    found: dict[str, tuple[int, Floats]] = {}
    for low, high in zip(BANDS, BANDS[1:], strict=False):
        inside = (matrix.prompts.similarity > low) & (matrix.prompts.similarity <= high)
        if inside.any():
            name = f"up to {high:g}" if low < 0 else f"{low:g} to {min(high, 1.0):g}"
            found[name] = int(inside.sum()), np.nanmean(means[inside], axis=0)
    return found


def _asked(matrix: ScoreMatrix) -> list[int]:
    counts = dict.fromkeys((level.name for level in matrix.levels), 0)
    for name in matrix.rows.texts["level"]:
        counts[name] += 1
    return list(counts.values())


def _prompt_means(relative: Floats) -> Floats:
    """Return (prompts, levels) means over the repeats that have a value."""
    counted = np.isfinite(relative)
    number = counted.sum(axis=1)
    total = np.where(counted, relative, 0.0).sum(axis=1)
    return np.where(number > 0, total / np.maximum(1, number), np.nan)


def _interval(values: Floats, seed: int) -> tuple[float, float]:
    """Return the 95 % interval of a mean by the bootstrap over prompts (Efron, 1979)."""
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    means = rng.choice(values, (DRAWS, len(values))).mean(axis=1)
    low, high = np.quantile(means, [(1 - SURE) / 2, (1 + SURE) / 2])
    return float(low), float(high)


def _efficient(i: int, quality: Sequence[float], costs: Floats) -> bool:
    """Whether no level is better at the same cost, or as good at less."""
    return not any(
        (q >= quality[i] and c <= costs[i]) and (q > quality[i] or c < costs[i])
        for k, (q, c) in enumerate(zip(quality, costs, strict=True))
        if k != i
    )


def _verdict(i: int, low: float, high: float) -> str:
    if i == 0:
        return "the reference"
    if np.isnan(low):
        return "not measured"
    if low <= 1 <= high:
        return "no difference beyond the noise of the seeds"
    return "worse" if high < 1 else "better"
