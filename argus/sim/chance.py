"""What chance does to each arrival: the same whatever the policy decides."""

from __future__ import annotations

import math

import numpy as np

from argus.sim.setting import SimSetting


class Chance:
    """Drawn before the run; lists have a value for each arrival.

    Args:
        setting: how much varies.
        arrivals: how many.
        seed: of all draws; what is drawn for one purpose does not depend on the others.
    """

    def __init__(self, setting: SimSetting, arrivals: int, seed: int) -> None:
        service, fetch, miss = (
            np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3)
        )
        self.service = _log_normal(service, setting.jitter, arrivals)
        """Factors of service times."""
        self.fetch = _log_normal(fetch, setting.retrieval.spread, arrivals)
        """Factors of the seconds of a fetch."""
        self.misses: list[bool] = (miss.random(arrivals) < setting.retrieval.miss).tolist()
        """Whether a fetch finds nothing."""


def _log_normal(rng: np.random.Generator, spread: float, n: int) -> list[float]:
    """Draw factors of mean 1 and the standard deviation `spread`."""
    if not spread:
        return [1.0] * n
    variance = math.log1p(spread**2)
    drawn: list[float] = rng.lognormal(-variance / 2, math.sqrt(variance), n).tolist()
    return drawn
