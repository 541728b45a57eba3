"""What a device second is worth at each backlog: the price as the slope of a queue's value.

Work in front of a new request is measured in the seconds that the cluster needs for it, the wait
`v`. A request that is given `c` seconds of a device earns `q` and adds `c/N` to the wait of all who
come later; one whose wait and service exceed the time that requests have earns nothing. Requests
come at a rate `r`, the wait falls by a second a second, and with `h` the value of a wait just
before an arrival, relative to an empty system, the best choice satisfies

    h(v) + g = max( U(v),  max_c q(c) + U(v + c/N) ),      U(v) = E[ h((v − T)⁺) ],  T ~ Exp(r)

(a Bellman equation of average reward, solved by relative value iteration on a grid; the prompts'
mean quality at each mean cost stands for `q(c)`). The price of a device second is what the wait
loses by it: (U(v) − U(v + c/N)) / c. It is near 0 while the queue will empty by itself and rises to
the worth of a whole request where the next ones would be lost; a horizon or a target load need not
be chosen, since the time to the deadline and the arrivals themselves say how much room is needed.
Curves are kept for a range of rates and read between them, because the rate moves faster than
anything else here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

WAITS = 64
RATES = 14
LOWEST, HIGHEST = 0.5, 4.0
"""Rates that curves are kept for, relative to what the cluster serves without approximation."""
COLD_ROUNDS, WARM_ROUNDS = 200, 12


@dataclass(frozen=True, slots=True)
class Mix:
    """Requests as they come lately.

    Attributes:
        works_s: (points,) mean device seconds at rising prices.
        qualities: (points,) mean expected quality there.
        busy_s: (points,) mean seconds from start to end there.
        slack_s: from arrival to deadline.
    """

    works_s: Floats
    qualities: Floats
    busy_s: Floats
    slack_s: float


@dataclass(frozen=True, slots=True)
class PriceCurve:
    """Prices by wait, for a range of arrival rates.

    Attributes:
        waits_s: (waits,) seconds, ascending from 0.
        rates: (rates,) arrivals a second, ascending.
        prices: (rates, waits) quality per device second.
        values: (rates, waits) of the queue, to go on from.
    """

    waits_s: Floats
    rates: Floats
    prices: Floats
    values: Floats

    def at_rate(self, rate: float) -> Floats:
        """Return (waits,) the prices when requests come at `rate`."""
        place = float(np.interp(rate, self.rates, np.arange(len(self.rates))))
        low = min(int(place), len(self.rates) - 2)
        return np.asarray(
            self.prices[low] + (place - low) * (self.prices[low + 1] - self.prices[low])
        )


def solve_curve(
    mix: Mix, nodes: float, before: PriceCurve | None = None, burst: float = 1.0
) -> PriceCurve:
    """Return the prices for a mix of requests.

    Args:
        mix: what comes.
        nodes: device seconds that the cluster works off in a second.
        before: the last curve, from whose values the iteration goes on.
        burst: arrivals that come together, on average.
    """
    steps = mix.works_s / nodes * burst
    reach_s = max(mix.slack_s, 2.0 * float(steps[0]))
    waits = np.linspace(0.0, reach_s + float(steps[0]), WAITS)
    full_rate = nodes / float(mix.works_s[0])
    rates = full_rate * np.geomspace(LOWEST, HIGHEST, RATES)
    falls = np.stack([_falls(waits, rate / burst) for rate in rates])
    possible = waits[None, :] + mix.busy_s[:, None] <= mix.slack_s
    gains = np.where(possible, mix.qualities[:, None] * burst, -np.inf)
    low, share = _between(waits, waits[None, :] + steps[:, None])
    values = np.zeros((RATES, WAITS)) if before is None else before.values
    for _ in range(COLD_ROUNDS if before is None else WARM_ROUNDS):
        after = np.einsum("rij,rj->ri", falls, values)
        moved = after[:, low] + share * (after[:, low + 1] - after[:, low])
        values = np.maximum(after, (gains + moved).max(axis=1))
        values -= values[:, :1]
    after = np.einsum("rij,rj->ri", falls, values)
    step = float(steps.mean())
    low, share = _between(waits, waits + step)
    moved = after[:, low] + share * (after[:, low + 1] - after[:, low])
    prices = np.maximum.accumulate(np.maximum(after - moved, 0.0), axis=1) / (step * nodes)
    return PriceCurve(waits, rates, prices, values)


def _between(grid: Floats, points: Floats) -> tuple[NDArray[np.int_], Floats]:
    """Return for each point the grid index below it and the share of the way to the next."""
    width = grid[1] - grid[0]
    place = np.clip(points / width, 0.0, len(grid) - 1.0)
    low = np.minimum(place.astype(int), len(grid) - 2)
    return low, place - low


def _falls(waits: Floats, rate: float) -> Floats:
    """Return (waits, waits) the weights of E[h((v − T)⁺)], T ~ Exp(rate), h linear between."""
    width = float(waits[1] - waits[0])
    x = rate * width
    stay = float(np.exp(-x))
    # Over one cell the weight of its upper and lower end: ∫ (1 − t/w) and ∫ t/w, times r e^{−rt}.
    upper = 1.0 - (1.0 - stay) / x
    lower = (1.0 - stay) - upper
    weights = np.zeros((len(waits), len(waits)))
    weights[0, 0] = 1.0
    for i in range(1, len(waits)):
        weights[i] = stay * weights[i - 1]
        weights[i, i] += upper
        weights[i, i - 1] += lower
    return weights
