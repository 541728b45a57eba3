"""`make bench-demand`: the demand forecast beside moving averages and a clairvoyant.

Every ten seconds each forecaster says how many requests a second will come on average over the next
5, 30 and 120 s; the truth is the mean of the rate that the arrivals are drawn from. The error is
the root of the mean square over the mean rate, in per cent. "average" is exponential, with that
time constant; "clairvoyant of now" knows the rate of this second and nothing of the future.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import record
import traffic

from argus.control.demand import DemandForecast

HORIZONS_S = (5, 30, 120)
EVERY_S = 10
WARM_UP_S = 600


class Forecaster(Protocol):
    def observe(self, now_s: float) -> None: ...
    def rate(self, now_s: float, horizon_s: float) -> float: ...


class Ours:
    def __init__(self) -> None:
        self.forecast = DemandForecast()

    def observe(self, now_s: float) -> None:
        self.forecast.observe(now_s)

    def rate(self, now_s: float, horizon_s: float) -> float:
        return self.forecast.forecast(now_s, horizon_s).rate_per_s


class Average:
    """Exponential average with a time constant."""

    def __init__(self, memory_s: float) -> None:
        self.memory_s = memory_s
        self.weight = 0.0
        self.at_s = 0.0

    def observe(self, now_s: float) -> None:
        self._decay(now_s)
        self.weight += 1.0 / self.memory_s

    def rate(self, now_s: float, horizon_s: float) -> float:
        self._decay(now_s)
        return self.weight

    def _decay(self, now_s: float) -> None:
        self.weight *= math.exp((self.at_s - now_s) / self.memory_s)
        self.at_s = now_s


def questions(seconds: int) -> Iterator[int]:
    yield from range(WARM_UP_S, seconds - max(HORIZONS_S), EVERY_S)


def answers(forecaster: Forecaster, moments: np.ndarray, seconds: int) -> np.ndarray:
    """Return the rates said, by question and horizon."""
    said, i = [], 0
    moments = moments.tolist()
    for at_s in questions(seconds):
        while i < len(moments) and moments[i] < at_s:
            forecaster.observe(moments[i])
            i += 1
        said.append([forecaster.rate(float(at_s), float(h)) for h in HORIZONS_S])
    return np.array(said)


def truth(rates: np.ndarray) -> np.ndarray:
    sums = np.concatenate([[0.0], np.cumsum(rates)])
    return np.array(
        [[(sums[t + h] - sums[t]) / h for h in HORIZONS_S] for t in questions(len(rates))]
    )


FORECASTERS: dict[str, Callable[[], Forecaster]] = {
    "argus": Ours,
    **{f"average {s} s": lambda s=s: Average(s) for s in (10, 30, 60, 300)},
}


def errors(shape: str, hours: float, seeds: int) -> list[dict[str, Any]]:
    """Return a row for each forecaster: error and bias in per cent of the mean rate."""
    squares: dict[str, list[np.ndarray]] = {}
    bias: dict[str, list[float]] = {}
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        rates = traffic.SHAPES[shape](int(3600 * hours), rng)
        moments = traffic.arrivals(rates, rng)
        right = truth(rates)
        said = {name: answers(make(), moments, len(rates)) for name, make in FORECASTERS.items()}
        now = np.array([rates[t - 1] for t in questions(len(rates))])
        said["clairvoyant of now"] = np.repeat(now[:, None], len(HORIZONS_S), axis=1)
        for name, values in said.items():
            off = 100.0 * (values - right) / right.mean()
            squares.setdefault(name, []).append((off**2).mean(axis=0))
            bias.setdefault(name, []).append(float(off[:, 1].mean()))
    rows = []
    for name in squares:
        error = np.sqrt(np.mean(squares[name], axis=0))
        row: dict[str, Any] = {"shape": shape, "forecaster": name}
        row |= {f"error {h} s %": float(e) for h, e in zip(HORIZONS_S, error, strict=True)}
        rows.append(row | {"bias 30 s %": float(np.mean(bias[name]))})
    return rows


def lag(name: str, seeds: int) -> dict[str, Any]:
    """Return seconds after a fivefold jump until the forecast is within a quarter of it."""
    taken = []
    for seed in range(seeds):
        rng = np.random.default_rng(1000 + seed)
        rates = np.concatenate([np.full(900, 2.0), np.full(900, 10.0)])
        moments = traffic.arrivals(rates, rng)
        forecaster, i = FORECASTERS[name](), 0
        for at_s in np.arange(900.0, 1800.0, 0.5):
            while i < len(moments) and moments[i] < at_s:
                forecaster.observe(moments[i])
                i += 1
            if forecaster.rate(float(at_s), 5.0) >= 7.5:
                taken.append(float(at_s) - 900.0)
                break
    return {
        "forecaster": name,
        "median s": float(np.median(taken)),
        "p90 s": float(np.quantile(taken, 0.9)),
    }


def main() -> None:
    """Measure everything and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    parser.add_argument("--hours", type=float, default=5.0)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    tables: dict[str, list[dict[str, Any]]] = {
        f"Error, {options.seeds} x {options.hours:g} hours a shape": [
            row for shape in traffic.SHAPES for row in errors(shape, options.hours, options.seeds)
        ],
        "Lag behind a fivefold jump": [lag(name, 8 * options.seeds) for name in FORECASTERS],
    }
    print(record.write(options.out, "demand", tables))


if __name__ == "__main__":
    main()
