"""How measurements spread, counted by bucket."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bounds for steps and other parts of a picture."""
LONG_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0)
"""Bounds for whole pictures."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A moment of a histogram.

    Attributes:
        bounds: upper bounds of the buckets, ascending; each belongs to its bucket.
        counts: measurements in each bucket, the last one without a bound.
        total: all of them summed.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float


class Histogram:
    """Counts measurements by bucket. One thread at a time may observe.

    Args:
        bounds: upper bounds of the buckets, ascending.
    """

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def observe(self, value: float) -> None:
        """Count one measurement."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def spread(self) -> Spread:
        """Return how the measurements spread now."""
        return Spread(self._bounds, tuple(self._counts), self._total)
