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


class Estimate(NamedTuple):
    """Requests a bin, with the variance of that, and how many bins' counts are in it."""

    rate: float
    variance: float
    bins: float


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
            if model.knows:
                rate, own = model.tell(1.0, spread)
                variance = spread * max(rate, 0.05) + own
                surprise = (count - rate) ** 2 / variance + math.log(variance)
                log -= surprise / 2
            logs.append(keep * log + (1.0 - keep) * first)
            model.add(count)
        most = max(logs)
        self._logs = [log - most for log in logs]

    def predict(self, ahead: float, spread: float) -> Estimate:
        """Return what is expected `ahead` bins after the middle of the newest one."""
        known = self._known(ahead)
        total = math.fsum(weight for _, _, weight in known)
        rate = math.fsum(x * weight for _, x, weight in known) / total
        variance = math.fsum(
            (model.tell(ahead, spread)[1] + (x - rate) ** 2) * weight for model, x, weight in known
        )
        bins = math.fsum(model.bins * weight for model, _, weight in known)
        return Estimate(rate, variance / total, bins / total)

    def rate(self, ahead: float) -> float:
        """Return the rate of `predict` alone, in less than half the time."""
        known = self._known(ahead)
        total = math.fsum([weight for _, _, weight in known])
        return math.fsum([x * weight for _, x, weight in known]) / total

    def _known(self, ahead: float) -> list[tuple[_Mean, float, float]]:
        """Return the models that have seen enough, with their rates and weights."""
        return [
            (model, model.rate(ahead), math.exp(log))
            for model, log in zip(self._models, self._logs, strict=True)
            if model.knows
        ]


class _Mean:
    """A mean of counts, each weighing less the older it is.

    Sums of weight·age^p (`w`), of squared weight·age^p (`v`) and of weight·age^p·count (`x`) are
    kept for p = 0; a line needs those for p = 1 and 2, too.
    """

    _fewest = 1
    """Bins to be seen before there is enough to tell."""

    def __init__(self, memory: float) -> None:
        self._keep = math.exp(-1.0 / memory)
        self._keep_squared = self._keep * self._keep
        self._w0 = self._v0 = self._x0 = 0.0
        self._count = 0
        self.knows = False
        """Whether it has seen enough to tell a rate."""

    def add(self, count: int) -> None:
        """Take the next bin's count; all ages grow by one."""
        self._w0 = self._keep * self._w0 + 1.0
        self._v0 = self._keep_squared * self._v0 + 1.0
        self._x0 = self._keep * self._x0 + count
        self._count += 1
        self.knows = self._count >= self._fewest

    @property
    def bins(self) -> float:
        """How many bins' counts are in it."""
        return self._w0 * self._w0 / self._v0

    def rate(self, ahead: float) -> float:
        """Return the rate `ahead` bins after the newest."""
        return self._x0 / self._w0

    def tell(self, ahead: float, spread: float) -> tuple[float, float]:
        """Return the rate and its variance; `spread` is that of counts over their mean."""
        return self.rate(ahead), self._noise(spread) * self._v0 / self._w0**2

    def _noise(self, spread: float) -> float:
        """Return the variance of a count."""
        return spread * max(self._x0 / self._w0, 1.0 / self._w0)


class _Line(_Mean):
    """A least-squares line of counts, each weighing less the older it is."""

    _fewest = 8

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

    def rate(self, ahead: float) -> float:
        """Return the rate `ahead` bins after the newest."""
        return self._at(*self._factors(ahead))

    def tell(self, ahead: float, spread: float) -> tuple[float, float]:
        """Return the rate and its variance; `spread` is that of counts over their mean."""
        a, b = self._factors(ahead)
        squares = a * a * self._v0 + 2 * a * b * self._v1 + b * b * self._v2
        return self._at(a, b), self._noise(spread) * squares

    def _at(self, a: float, b: float) -> float:
        mean = self._x0 / self._w0
        # What a line says of far away is not believed beyond a doubling.
        return min(max(a * self._x0 + b * self._x1, mean / 2), 2 * mean)

    def _factors(self, ahead: float) -> tuple[float, float]:
        """Return a, b of the line at age −ahead, Σ (a + b·age)·weight·count, by least squares."""
        det = self._w0 * self._w2 - self._w1 * self._w1
        return (self._w2 + ahead * self._w1) / det, -(self._w1 + ahead * self._w0) / det
