"""Rates by several memories at once, weighed by how well each has predicted lately."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

_MODELS = (
    (10.0, False, -3.0),
    (30.0, False, -2.0),
    (90.0, False, -1.0),
    (270.0, False, 0.0),
    (800.0, False, 0.0),
    (60.0, True, -3.0),
    (180.0, True, -2.0),
    (540.0, True, -1.0),
)
"""Memory in bins, whether a line is drawn through what is remembered, and the log of the weight
that it starts with and returns to: long memories and no slope unless counts say otherwise."""
_FEWEST_FOR_A_LINE = 8
"""Bins."""


class Estimate(NamedTuple):
    """Requests a bin, with the variance of that."""

    rate: float
    variance: float
    bins: float = 0.0
    """How many bins' counts are in it."""


class Averages:
    """Dynamic model averaging (Raftery, Kárný and Ettler, Technometrics 2010) of counts by bins.

    The models are exponentially weighted means and lines of different memories. Each new count is
    predicted by all of them; those that make it likely gain weight. At each step weights return a
    little to those of the start, so that what was good long ago does not count for ever.

    Args:
        forgetting: exponent of the weights at each step, a little under 1.
    """

    def __init__(self, forgetting: float = 0.998) -> None:
        self._forgetting = forgetting
        self.restart(())

    def restart(self, counts: Iterable[int]) -> None:
        """Forget everything but `counts`, the newest last."""
        self._models = [_Line(memory) if line else _Mean(memory) for memory, line, _ in _MODELS]
        self._logs = [log for _, _, log in _MODELS]
        for count in counts:
            for model in self._models:
                model.add(count)

    def add(self, count: int, spread: float) -> None:
        """Take the next bin's count; `spread` is the variance of counts over their mean."""
        keep = self._forgetting
        logs = []
        for model, log, (_, _, first) in zip(self._models, self._logs, _MODELS, strict=True):
            told = model.predict(1.0, spread)
            if told is not None:
                variance = spread * max(told.rate, 0.05) + told.variance
                surprise = (count - told.rate) ** 2 / variance + math.log(variance)
                log -= surprise / 2
            logs.append(keep * log + (1.0 - keep) * first)
            model.add(count)
        most = max(logs)
        self._logs = [log - most for log in logs]

    def predict(self, ahead: float, spread: float) -> Estimate:
        """Return the rate `ahead` bins after the middle of the newest one."""
        told = [model.predict(ahead, spread) for model in self._models]
        known = [(x, math.exp(log)) for x, log in zip(told, self._logs, strict=True) if x]
        total = math.fsum(weight for _, weight in known)
        rate = math.fsum(x.rate * weight for x, weight in known) / total
        variance = math.fsum((x.variance + (x.rate - rate) ** 2) * w for x, w in known) / total
        bins = math.fsum(x.bins * weight for x, weight in known) / total
        return Estimate(rate, variance, bins)


class _Mean:
    """A mean of counts, each weighing less the older it is.

    Sums of weight·age^p (`w`), of squared weight·age^p (`v`) and of weight·age^p·count (`x`) are
    kept for p = 0; a line needs those for p = 1 and 2, too.
    """

    def __init__(self, memory: float) -> None:
        self._keep = math.exp(-1.0 / memory)
        self._keep_squared = self._keep * self._keep
        self._w0 = self._v0 = self._x0 = 0.0
        self._count = 0

    def add(self, count: int) -> None:
        """Take the next bin's count; all ages grow by one."""
        self._w0 = self._keep * self._w0 + 1.0
        self._v0 = self._keep_squared * self._v0 + 1.0
        self._x0 = self._keep * self._x0 + count
        self._count += 1

    def predict(self, ahead: float, spread: float) -> Estimate | None:
        """Return the rate `ahead` bins after the newest; None before there is enough to tell."""
        if not self._count:
            return None
        mean, noise = self._mean(spread)
        return Estimate(mean, noise * self._v0 / self._w0**2, self._w0 * self._w0 / self._v0)

    def _mean(self, spread: float) -> tuple[float, float]:
        """Return the mean, and the variance of a count."""
        mean = self._x0 / self._w0
        return mean, spread * max(mean, 1.0 / self._w0)


class _Line(_Mean):
    """A least-squares line of counts, each weighing less the older it is."""

    def __init__(self, memory: float) -> None:
        super().__init__(memory)
        self._w1 = self._w2 = self._v1 = self._v2 = self._x1 = 0.0

    def add(self, count: int) -> None:
        """Take the next bin's count; all ages grow by one."""
        keep, squared = self._keep, self._keep_squared
        self._w2 = keep * (self._w2 + 2 * self._w1 + self._w0)
        self._w1 = keep * (self._w1 + self._w0)
        self._v2 = squared * (self._v2 + 2 * self._v1 + self._v0)
        self._v1 = squared * (self._v1 + self._v0)
        self._x1 = keep * (self._x1 + self._x0)
        super().add(count)

    def predict(self, ahead: float, spread: float) -> Estimate | None:
        """Return the rate `ahead` bins after the newest; None before there is enough to tell."""
        if self._count < _FEWEST_FOR_A_LINE:
            return None
        mean, noise = self._mean(spread)
        # Weighted least squares of counts on age; the answer is the line at age −ahead, that is
        # Σ (a + b·age)·weight·count with a, b as below.
        det = self._w0 * self._w2 - self._w1 * self._w1
        a = (self._w2 + ahead * self._w1) / det
        b = -(self._w1 + ahead * self._w0) / det
        rate = a * self._x0 + b * self._x1
        variance = noise * (a * a * self._v0 + 2 * a * b * self._v1 + b * b * self._v2)
        # What a line says of far away is not believed beyond a doubling.
        bins = self._w0 * self._w0 / self._v0
        return Estimate(min(max(rate, mean / 2), 2 * mean), variance, bins)
