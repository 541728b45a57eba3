"""Lower bounds from prompts kept aside for them, and how far predictions can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from argus.control.learned.bounds import Bounds, margin
from argus.control.learned.fitted import FittedPredictor
from argus.quality.fit.data import FitData, Floats

COVERAGE = 0.9
BINS = 10
LEAST_SIZE = 0.02
"""Errors are nowhere expected to be smaller, in relative quality."""
MOST = 1e6
"""Stands for a margin that is not bounded."""
FLOORS = (0.5, 0.7, 0.8, 0.9, 0.95, 1.0)
"""Values of min_quality that the bounds are tried with."""


def error_sizes(predicted: Floats, targets: Floats, bins: int = 12) -> tuple[Floats, Floats]:
    """Return expected sizes of errors by predicted quality, (k,) and (k,).

    The mean size among equally many predictions around each of k qualities.

    Args:
        predicted: (n, l) for prompts that the model was not fitted to.
        targets: (n, l) measured, NaN where not. The first level is left out.
    """
    known = ~np.isnan(targets[:, 1:])
    guesses, off = predicted[:, 1:][known], (predicted - targets)[:, 1:][known]
    order = np.argsort(guesses, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    qualities = np.array([guesses[part].mean() for part in parts])
    sizes = np.array([np.abs(off[part]).mean() for part in parts])
    qualities, first = np.unique(qualities, return_index=True)
    return qualities, np.maximum(sizes[first], LEAST_SIZE)


def find_bounds(
    predicted: Floats, targets: Floats, means: Floats, sizes: tuple[Floats, Floats]
) -> Bounds:
    """Return bounds that hold for prompts drawn like these.

    Args:
        predicted: (n, l) for prompts that took no part in fitting.
        targets: (n, l) measured of one picture each, NaN where not.
        means: (l,) of the levels.
        sizes: of `error_sizes`.
    """
    count = len(means)
    blank = Bounds(*sizes, np.zeros(count), np.zeros(count))
    off = (predicted - targets) / blank.size(predicted)
    margins, plain = np.zeros(count), np.zeros(count)
    for i in range(1, count):
        known = ~np.isnan(targets[:, i])
        margins[i] = min(MOST, margin(off[known, i], COVERAGE))
        plain[i] = min(MOST, margin(means[i] - targets[known, i], COVERAGE))
    return Bounds(*sizes, margins, plain)


def one_each(data: FitData) -> Floats:
    """Return (n, l) relative quality of each prompt's first repeat that has one."""
    there = ~np.isnan(data.relative)
    first = there.argmax(axis=1)
    return np.take_along_axis(data.relative, first[:, None], axis=1)[:, 0]


@dataclass(frozen=True, slots=True)
class Bin:
    """Predictions of about one quality: their mean, the mean that was measured, how many."""

    predicted: float
    measured: float
    pictures: int


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many pictures of a level were not below their bound, of how many, and the mean bound."""

    level: str
    covered: int
    pictures: int
    lower: float

    @property
    def share(self) -> float:
        """Of the pictures."""
        return self.covered / self.pictures if self.pictures else float("nan")


def reliability(predicted: Floats, data: FitData, bins: int = BINS) -> tuple[Bin, ...]:
    """Return what was measured by what was predicted, in bins of equally many pictures.

    Every repeat counts; the reference level does not.
    """
    real = data.relative[:, :, 1:]
    guesses = np.broadcast_to(predicted[:, None, 1:], real.shape)
    known = ~np.isnan(real)
    guesses, real = guesses[known], real[known]
    order = np.argsort(guesses, kind="stable")
    return tuple(
        Bin(float(guesses[part].mean()), float(real[part].mean()), len(part))
        for part in np.array_split(order, bins)
        if len(part)
    )


def calibration_error(bins: Sequence[Bin]) -> float:
    """Return the expected calibration error: mean distance of measured from predicted means.

    (Naeini, Cooper and Hauskrecht, AAAI 2015, for a regression.)
    """
    total = sum(b.pictures for b in bins)
    return sum(b.pictures * abs(b.predicted - b.measured) for b in bins) / total


def coverage(lower: Floats, data: FitData) -> tuple[Coverage, ...]:
    """Return how many pictures reach their bound, level by level, the reference left out."""
    found = []
    for i, level in enumerate(data.levels[1:], start=1):
        real = data.relative[:, :, i]
        known = ~np.isnan(real)
        reached = (real >= lower[:, None, i] - 1e-9) & known
        found.append(
            Coverage(level.name, int(reached.sum()), int(known.sum()), float(lower[:, i].mean()))
        )
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Floor:
    """What comes of `min_quality` where the cheapest level that is allowed is taken.

    Attributes:
        floor: of the quality.
        reached: share of the pictures that reach it.
        saved: share of device seconds.
        by_mean: share that would reach it, were it held against the expected quality.
        saved_by_mean: and what that would save.
    """

    floor: float
    reached: float
    saved: float
    by_mean: float
    saved_by_mean: float


def floors(predictor: FittedPredictor, data: FitData) -> tuple[Floor, ...]:
    """Return what each of `FLOORS` leads to."""
    quality, lower = predictor.arrays(data.prompts)
    found = []
    for floor in FLOORS:
        by_bound, by_mean = (_cheapest(values, data, floor) for values in (lower, quality))
        found.append(Floor(floor, *by_bound, *by_mean))
    return tuple(found)


def _cheapest(values: Floats, data: FitData, floor: float) -> tuple[float, float]:
    """Return the share of pictures that reach the floor, and the seconds saved."""
    allowed = values >= floor - 1e-9
    choice = np.where(allowed, data.cost_s, np.inf).argmin(axis=1)
    real = np.take_along_axis(data.relative, choice[:, None, None], axis=2)[:, :, 0]
    known = ~np.isnan(real)
    saved = 1 - data.cost_s[choice].mean() / data.cost_s[0]
    return float((real >= floor - 1e-9)[known].mean()), float(saved)
