"""How demand moves: shapes of arrival rates, and arrivals drawn from them.

A shape is the rate in each second relative to its mean, so that every trace of one load brings
the same work on average. Within a second arrivals are Poisson. Shapes of which only a description
is public are assumptions, stated where they are made.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from argus.errors import InvalidArgumentError, NotFoundError
from argus.sim.types import Floats, Ints

Shape = Callable[[int, np.random.Generator], Floats]
"""From seconds and a source of chance to the relative rate in each second."""

BURSTY_MINUTES = ((167, 50), (197, 390), (307, 390), (337, 50), (504, 50), (534, 390), (644, 390))
"""(minute, arrivals a minute) between which the published bursty trace is read as straight lines.

Read off a plot: a base of 50, plateaus of 390 for 110 minutes, ramps of 30, 840 minutes in all.
Two plateaus at equal distances are an assumption.
"""
BURSTY_END = (674, 50)
BURSTY_LENGTH = 840


def constant(seconds: int, rng: np.random.Generator) -> Floats:
    """Poisson arrivals at one rate."""
    return np.ones(seconds)


def diurnal(seconds: int, rng: np.random.Generator) -> Floats:
    """One day, however long it is: a sine from trough to peak and back.

    An assumption: the peak is three times the trough, half above and below the mean.
    """
    return 1.0 - 0.5 * np.cos(2 * np.pi * (np.arange(seconds) + 0.5) / seconds)


def bursty(seconds: int, rng: np.random.Generator) -> Floats:
    """The published bursty trace, its 840 minutes drawn together or out to `seconds`."""
    points = [(0, 50), *BURSTY_MINUTES, BURSTY_END, (BURSTY_LENGTH, 50)]
    minutes, rates = zip(*points, strict=True)
    at = (np.arange(seconds) + 0.5) * BURSTY_LENGTH / seconds
    rate: Floats = np.interp(at, minutes, rates)
    return rate


def burst(seconds: int, rng: np.random.Generator) -> Floats:
    """One plateau of the published length, 110 of 840 minutes with ramps of 30, at 2.8 times the
    base: 2.15 times the mean, just beyond what levels of half the work can take at load 1.

    The published heights, 50 and 390, ask for 2.4 times the mean for a quarter of the time: more
    than a tenth of those requests can be made by nobody, which hides what policies do.
    """
    at = (np.arange(seconds) + 0.5) * BURSTY_LENGTH / seconds
    rate: Floats = np.interp(at, (335, 365, 475, 505), (1.0, 2.8, 2.8, 1.0))
    return rate


def azure(seconds: int, rng: np.random.Generator) -> Floats:
    """Counts a minute as rough as those of a busy function service.

    Assumptions, after the public description of the Azure Functions trace of 2019 (a daily swing,
    timers that fire together at round minutes, minutes that differ by far more than Poisson
    counts): the logarithm of a minute's rate follows an autoregressive process of standard
    deviation 0.2 and correlation 0.8 from minute to minute; each fifth minute has a tenth more,
    each sixtieth a quarter more; the day swings by ±30 %, and the trace is one day, drawn
    together.
    """
    minutes = math.ceil(seconds / 60)
    noise = rng.normal(0.0, 0.2, minutes)
    level = np.empty(minutes)
    level[0] = noise[0]
    for minute in range(1, minutes):
        level[minute] = 0.8 * level[minute - 1] + 0.6 * noise[minute]
    at = np.arange(minutes)
    rate = np.exp(level) * (1.0 - 0.3 * np.cos(2 * np.pi * at / minutes))
    rate *= 1.0 + 0.1 * (at % 5 == 0) + 0.15 * (at % 60 == 0)
    return np.repeat(rate, 60)[:seconds]


def markov(seconds: int, rng: np.random.Generator) -> Floats:
    """A Markov-modulated Poisson process: calm for 300 s on average, then at four times the rate
    for 60 s on average. An assumption."""
    rate = np.empty(seconds)
    at, busy = 0, bool(rng.random() < 1 / 6)
    while at < seconds:
        stay = max(1, round(rng.exponential(60.0 if busy else 300.0)))
        rate[at : at + stay] = 4.0 if busy else 1.0
        at, busy = at + stay, not busy
    return rate


def step(seconds: int, rng: np.random.Generator) -> Floats:
    """Five times the demand from one second to the next, for the middle third."""
    rate = np.ones(seconds)
    rate[seconds // 3 : 2 * seconds // 3] = 5.0
    return rate


SHAPES: dict[str, Shape] = {
    "poisson": constant,
    "diurnal": diurnal,
    "bursty": bursty,
    "burst": burst,
    "azure": azure,
    "markov": markov,
    "step": step,
}


def draw_arrivals(shape: str, rate: float, seconds: int, seed: int) -> Floats:
    """Return arrival times of a shape, seconds, ascending.

    Args:
        shape: a name in `SHAPES`.
        rate: arrivals a second on average over the trace.
        seconds: its length.
        seed: of all that is drawn.

    Raises:
        NotFoundError: there is no such shape.
        InvalidArgumentError: nothing would arrive.
    """
    if shape not in SHAPES:
        raise NotFoundError("shape", shape, SHAPES)
    if not rate > 0 or seconds < 1:
        raise InvalidArgumentError("rate", "rate and seconds must be above 0")
    rng = np.random.default_rng(seed)
    relative = SHAPES[shape](seconds, rng)
    return spread(rng.poisson(rate * relative / relative.mean()), 1.0, rng)


def spread(counts: Ints, width_s: float, rng: np.random.Generator) -> Floats:
    """Return times for so many arrivals in each interval, uniform within it."""
    starts = np.repeat(np.arange(len(counts)) * width_s, counts)
    times: Floats = np.sort(starts + rng.random(len(starts)) * width_s)
    return times
