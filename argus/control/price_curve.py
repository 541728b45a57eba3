"""What a device second is worth at each backlog: the price as the slope of a queue's value.

Work in front of a new request is measured in the seconds that the cluster needs for it, the wait
`v`. A request that is given `c` seconds of a device earns `q` and adds `c/N` to the wait of all who
come later; one whose wait and service exceed the time that requests have earns nothing. Requests
come at a rate `r`, the wait falls by a second a second, and with `h` the value of a wait just
before an arrival, relative to an empty system, the best choice satisfies

    h(v) + g = max( U(v),  max_c q(c) + U(v + c/N) ),      U(v) = E[ h((v − T)⁺) ],  T ~ Exp(r)

(a Bellman equation of average reward, solved by policy iteration on a grid, Howard 1960; the
prompts' mean quality at each mean cost stands for `q(c)`). The price of a device second is what
the wait loses by it: (U(v) − U(v + c/N)) / c. It is near 0 while the queue will empty by itself and
rises to the worth of a whole request where the next ones would be lost; a horizon or a target load
need not be chosen, since the time to the deadline and the arrivals themselves say how much room is
needed. Curves are kept for a range of rates and read between them, because the rate moves faster
than anything else here.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

WAITS = 40
LOADS: Floats = np.geomspace(0.5, 4.0, 10)
"""Rates that curves are kept for, relative to what the cluster serves without approximation; more
of them, as far apart, where the cheapest level is cheaper than half of a whole run."""
MOST_ROUNDS = 12
ENOUGH = 1e-6
_IMPOSSIBLE = -1e6
_LEAST_FALL = 1e-9


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
    """Prices by wait, for a range of loads.

    Attributes:
        width_s: between two waits; the first is 0.
        loads: (loads,) relative to what the cluster serves without approximation.
        prices: (loads, waits) quality per device second, rising with the wait.
        choices: (loads, waits) what is best there, to go on from.
    """

    width_s: float
    loads: Floats
    prices: Floats
    choices: NDArray[np.intp]

    def at_load(self, load: float) -> list[float]:
        """Return the prices by wait at a load."""
        low = min(max(int(self.loads.searchsorted(load)) - 1, 0), len(self.loads) - 2)
        below, above = self.loads[low : low + 2].tolist()
        share = min(max((load - below) / (above - below), 0.0), 1.0)
        row = self.prices[low] + share * (self.prices[low + 1] - self.prices[low])
        prices: list[float] = row.tolist()
        return prices

    def state(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return {
            "width_s": self.width_s,
            "loads": self.loads.tolist(),
            "prices": [[float(f"{x:.6g}") for x in row] for row in self.prices],
            "choices": self.choices.tolist(),
        }

    @classmethod
    def restored(cls, state: Mapping[str, Any], points: int) -> PriceCurve:
        """Return what `state` was of, made of a mix of so many points.

        Raises:
            ValueError, KeyError, TypeError, OverflowError: it makes no sense.
        """
        curve = cls(
            float(state["width_s"]),
            np.array(state["loads"], np.float64),
            np.array(state["prices"], np.float64),
            np.array(state["choices"], np.intp),
        )
        loads, shape = curve.loads, (len(curve.loads), WAITS)
        if loads.ndim != 1 or len(loads) < 2 or not (np.diff(loads) > 0).all() or loads[0] <= 0:
            raise ValueError("the loads of the price curve make no sense")
        if curve.prices.shape != shape or not np.isfinite(curve.prices).all():
            raise ValueError("the prices of the price curve make no sense")
        if curve.choices.shape != shape or curve.choices.min() < 0 or curve.choices.max() > points:
            raise ValueError("the choices of the price curve make no sense")
        if not 0 < curve.width_s < math.inf or not loads[-1] < math.inf:
            raise ValueError("the width or a load of the price curve makes no sense")
        return curve


def solve_curve(
    mix: Mix, nodes: float, before: PriceCurve | None = None, burst: float = 1.0
) -> PriceCurve:
    """Return the prices for a mix of requests.

    Args:
        mix: what comes.
        nodes: device seconds that the cluster works off in a second.
        before: the last curve, from whose choices the iteration goes on.
        burst: arrivals that come together, on average.
    """
    steps = np.append(mix.works_s / nodes * burst, 0.0)  # the last choice: it is refused
    reach_s = max(mix.slack_s, 2.0 * float(steps[0])) + float(steps[0])
    waits = np.linspace(0.0, reach_s, WAITS)
    loads = loads_of(mix)
    whole_s = float(mix.works_s[0])
    falls = _falls(tuple(loads.tolist()), reach_s, nodes, whole_s, burst)
    possible = waits[:, None] + mix.busy_s <= mix.slack_s
    gains = np.where(possible, mix.qualities * burst, _IMPOSSIBLE)
    gains = np.column_stack([gains, np.zeros(WAITS)])
    low, share = _between(waits, waits[:, None] + steps)
    refused = len(steps) - 1
    chosen = np.full((len(loads), WAITS), refused)
    if before is not None:
        known = min(len(loads), len(before.choices))
        chosen[:known] = before.choices[:known]
    at, rows = np.arange(WAITS), np.arange(len(loads))[:, None]
    chosen = np.where(gains[at, chosen] == _IMPOSSIBLE, refused, chosen)
    after = np.zeros((len(loads), WAITS))
    for _ in range(MOST_ROUNDS):
        after = falls @ _values(chosen, gains, low, share, falls)[:, :, None]
        after = after[:, :, 0]
        rises = after[:, 1:] - after[:, :-1]
        worth = gains + after.take(low, axis=1) + share * rises.take(low, axis=1)
        gained = worth.max(axis=2) - worth[rows, at, chosen]
        if not (gained > ENOUGH).any():
            break
        chosen = worth.argmax(axis=2)
    step = float(steps[:-1].mean())
    low, share = _between(waits, waits + step)
    moved = after[:, low] + share * (after[:, low + 1] - after[:, low])
    prices = np.maximum.accumulate(np.maximum(after - moved, 0.0), axis=1) / (step * nodes)
    return PriceCurve(float(waits[1]), loads, prices, chosen)


def loads_of(mix: Mix) -> Floats:
    """Return the loads that a curve is for: up to twice what is served at the cheapest levels."""
    ratio = float(LOADS[1] / LOADS[0])
    most = 2.0 * float(mix.works_s[0] / mix.works_s.min())
    more = max(0, math.ceil(math.log(most / LOADS[-1]) / math.log(ratio) - 1e-9))
    if not more:
        return LOADS
    return np.append(LOADS, LOADS[-1] * ratio ** np.arange(1, more + 1))


def _values(
    chosen: NDArray[np.intp], gains: Floats, low: NDArray[np.intp], share: Floats, falls: Floats
) -> Floats:
    """Return (loads, waits) the values h of always choosing so, 0 at no wait.

    They solve h + g = gain + S h with S the move to the next wait; the unknown average g takes the
    place of h(0), which is 0 by definition.
    """
    at = np.arange(len(gains))
    loads = np.arange(len(chosen))[:, None]
    below, part = low[at, chosen], share[at, chosen][:, :, None]
    system = (part - 1.0) * falls[loads, below]
    system -= part * falls[loads, below + 1]
    system[:, at, at] += 1.0
    system[:, :, 0] = 1.0
    values = np.linalg.solve(system, gains[at, chosen][:, :, None])[:, :, 0]
    values[:, 0] = 0.0
    return np.asarray(values)


def _between(grid: Floats, points: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Return for each point the grid index below it and the share of the way to the next."""
    place = np.minimum(np.maximum(points / (grid[1] - grid[0]), 0.0), len(grid) - 1.0)
    low = np.minimum(place.astype(np.intp), len(grid) - 2)
    return low, place - low


@functools.lru_cache(maxsize=8)
def _falls(
    loads: tuple[float, ...], reach_s: float, nodes: float, work_s: float, burst: float
) -> Floats:
    """Return (rates, waits, waits) the weights of E[h((v − T)⁺)], T ~ Exp(rate), h linear between.

    In a cell that the fall ends in, h goes from its upper to its lower end: the upper one weighs
    ∫ r e^{−rt} (1 − t/w) dt, the lower one the rest. What falls below no wait stays there. They
    stay the same from curve to curve as long as requests have the same time and the nodes are the
    same, so they are kept; nobody writes into them.
    """
    count = WAITS
    waits = np.linspace(0.0, reach_s, WAITS)
    x = np.array(loads) * nodes / work_s / burst * float(waits[1] - waits[0])
    stay = np.exp(-x[:, None] * np.arange(count))  # of passing so many cells
    upper = 1.0 - (1.0 - stay[:, 1]) / x
    lower = (1.0 - stay[:, 1]) - upper
    cells = np.arange(count)[:, None] - np.arange(count)
    passed = stay[:, np.maximum(cells, 0)]
    weights = np.where(cells >= 0, upper[:, None, None] * passed, 0.0)
    passed = stay[:, np.maximum(cells - 1, 0)]
    weights += np.where(cells >= 1, lower[:, None, None] * passed, 0.0)
    weights[:, :, 0] = stay
    weights[:, 1:, 0] += lower[:, None] * stay[:, :-1]
    # However few the arrivals, some time no wait is left: without that, where exp(−x) is 0, waits
    # fall apart into classes that never meet, and the equations for the values are singular.
    weights *= 1.0 - _LEAST_FALL
    weights[:, :, 0] += _LEAST_FALL
    return np.asarray(weights)
