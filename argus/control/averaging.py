"""Rates by several memories at once, weighed by how well each has predicted lately."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Estimate:
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
        self._models = [_Discounted(memory, line) for memory, line, _ in _MODELS]
        self._logs = [log for _, _, log in _MODELS]
        for count in counts:
            for model in self._models:
                model.add(count)

    def add(self, count: int, spread: float) -> None:
        """Take the next bin's count; `spread` is the variance of counts over their mean."""
        for i, model in enumerate(self._models):
            told = model.predict(1.0, spread)
            if told is not None:
                variance = spread * max(told.rate, 0.05) + told.variance
                surprise = (count - told.rate) ** 2 / variance + math.log(variance)
                self._logs[i] -= surprise / 2
            keep = self._forgetting
            self._logs[i] = keep * self._logs[i] + (1.0 - keep) * _MODELS[i][2]
            model.add(count)
        most = max(self._logs)
        self._logs = [log - most for log in self._logs]

    def predict(self, ahead: float, spread: float) -> Estimate:
        """Return the rate `ahead` bins after the middle of the newest one."""
        told = [model.predict(ahead, spread) for model in self._models]
        known = [(x, math.exp(log)) for x, log in zip(told, self._logs, strict=True) if x]
        total = math.fsum(weight for _, weight in known)
        rate = math.fsum(x.rate * weight for x, weight in known) / total
        variance = math.fsum((x.variance + (x.rate - rate) ** 2) * w for x, w in known) / total
        bins = math.fsum(x.bins * weight for x, weight in known) / total
        return Estimate(rate, variance, bins)


class _Discounted:
    """A mean or a least-squares line of counts, each weighing less the older it is.

    Sums of weight·age^p (`w`), of squared weight·age^p (`v`) and of weight·age^p·count (`x`) are
    kept for p = 0, 1, 2; a bin later all ages are one more.
    """

    def __init__(self, memory: float, line: bool) -> None:
        self._keep = math.exp(-1.0 / memory)
        self._line = line
        self._w = (0.0, 0.0, 0.0)
        self._v = (0.0, 0.0, 0.0)
        self._x0 = self._x1 = 0.0
        self._count = 0

    def add(self, count: int) -> None:
        keep = self._keep
        self._w = _older(self._w, keep)
        self._v = _older(self._v, keep * keep)
        self._x1 = keep * (self._x1 + self._x0)
        self._x0 = keep * self._x0 + count
        self._count += 1

    def predict(self, ahead: float, spread: float) -> Estimate | None:
        """Return the rate `ahead` bins after the newest; None before there is enough to tell."""
        if self._count < (8 if self._line else 1):
            return None
        w0, w1, w2 = self._w
        v0, v1, v2 = self._v
        mean = self._x0 / w0
        noise = spread * max(mean, 1.0 / w0)
        bins = w0 * w0 / v0
        if not self._line:
            return Estimate(mean, noise * v0 / w0**2, bins)
        # Weighted least squares of counts on age; the answer is the line at age −ahead, that is
        # Σ (a + b·age)·weight·count with a, b as below.
        det = w0 * w2 - w1 * w1
        a = (w2 + ahead * w1) / det
        b = -(w1 + ahead * w0) / det
        rate = a * self._x0 + b * self._x1
        variance = noise * (a * a * v0 + 2 * a * b * v1 + b * b * v2)
        # What a line says of far away is not believed beyond a doubling.
        return Estimate(min(max(rate, mean / 2), 2 * mean), variance, bins)


def _older(sums: tuple[float, float, float], keep: float) -> tuple[float, float, float]:
    """Return sums over one more bin: all ages grow by one, and there is a new one of age 0."""
    s0, s1, s2 = sums
    return keep * s0 + 1.0, keep * (s1 + s0), keep * (s2 + 2 * s1 + s0)
