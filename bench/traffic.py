"""Shapes of traffic as rates over time, and arrivals drawn from them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Shape = Callable[[int, np.random.Generator], Floats]
"""From seconds to the rate in each of them, requests a second."""


def steady(seconds: int, rng: np.random.Generator) -> Floats:
    """Two requests a second, for ever."""
    return np.full(seconds, 2.0)


def diurnal(seconds: int, rng: np.random.Generator) -> Floats:
    """A sine between 0.5 and 3.5, one period an hour: a day in quick motion."""
    return 2.0 + 1.5 * np.sin(2 * np.pi * np.arange(seconds) / 3600.0)


def bursty(seconds: int, rng: np.random.Generator) -> Floats:
    """The published bursty trace: 50 a minute, plateaus of 390 of 110 min, ramps of 30 min."""
    minutes = np.arange(seconds) / 60.0 % 280.0
    corners = [0.0, 55.0, 85.0, 195.0, 225.0, 280.0]
    return np.interp(minutes, corners, [50.0, 50.0, 390.0, 390.0, 50.0, 50.0]) / 60.0


def azure(seconds: int, rng: np.random.Generator) -> Floats:
    """Like counts of Azure Functions: each minute another rate, lognormal, correlated, spiky."""
    count = seconds // 60 + 1
    log = np.empty(count)
    log[0] = 0.0
    for i in range(1, count):
        log[i] = 0.9 * log[i - 1] + 0.2 * rng.standard_normal()
    spikes = np.where(rng.random(count) < 0.02, 3.0, 1.0)
    return np.repeat(2.0 * np.exp(log) * spikes, 60)[:seconds]


def step(seconds: int, rng: np.random.Generator) -> Floats:
    """Two a second, then ten: five times as many within a second, for ten minutes of each hour."""
    return np.where(np.arange(seconds) % 3600 // 600 == 3, 10.0, 2.0)


SHAPES: dict[str, Shape] = {
    "steady": steady,
    "diurnal": diurnal,
    "bursty": bursty,
    "azure": azure,
    "step": step,
}


def arrivals(rates: Floats, rng: np.random.Generator) -> Floats:
    """Return moments of a Poisson process with a rate for each second, ascending."""
    counts = rng.poisson(rates)
    seconds = np.repeat(np.arange(len(rates)), counts)
    return np.sort(seconds + rng.random(len(seconds)))
