"""The price of a device second now: the curve of the recent mix, read at the present backlog."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from argus.control.choices import Choices
from argus.control.price_curve import Mix, PriceCurve, solve_curve

Floats = NDArray[np.float64]

RELATIVE_PRICES: Floats = np.concatenate(([0.0], np.geomspace(0.003, 4.0, 39)))
"""Prices that are looked at, relative to one unit of quality for the work of a whole request."""
_REMEMBERED = 192
_YOUNG_S = 5.0
_EWMA_OF_SLACK = 0.02


class Rate:
    """Arrivals a second, as an exponentially weighted average.

    Args:
        memory_s: time in which the weight of an arrival falls to 1/e.
    """

    def __init__(self, memory_s: float) -> None:
        self._memory_s = memory_s
        self._weight = 0.0
        self._since_s = 0.0
        self._first_s: float | None = None

    def arrive(self, now_s: float) -> None:
        """Count one."""
        if self._first_s is None:
            self._first_s = self._since_s = now_s
        self._fade(now_s)
        self._weight += 1.0

    def at(self, now_s: float) -> float:
        """Return the rate; what came before the first arrival is not taken for silence."""
        if self._first_s is None:
            return 0.0
        self._fade(now_s)
        seen = 1.0 - math.exp(-(now_s - self._first_s) / self._memory_s)
        return self._weight / (self._memory_s * max(seen, 0.2))

    def _fade(self, now_s: float) -> None:
        self._weight *= math.exp((self._since_s - now_s) / self._memory_s)
        self._since_s = now_s


class Pricing:
    """Keeps what the price depends on: recent requests, their rate, and what waits.

    Args:
        memory_s: of the arrival rate.
        period_s: seconds between two curves.
        burst: arrivals that the curve takes to come together.
    """

    def __init__(self, memory_s: float, period_s: float, burst: float) -> None:
        self.rate = Rate(memory_s)
        self.curve: PriceCurve | None = None
        self._period_s = period_s
        self._burst = burst
        self._prices: Floats = np.zeros(0)
        self._recent: deque[Floats] = deque(maxlen=_REMEMBERED)
        self._waiting: Floats = np.zeros(0)
        self._works_s: dict[Choices, Floats] = {}
        self._slack_s = 0.0
        self._whole_s = 0.0
        self._next_s = -math.inf
        self._nodes = 0

    def arrive(self, choices: Choices, slack_s: float, now_s: float) -> None:
        """Count a new request; without a deadline its slack is infinite."""
        if not len(self._prices):
            self._whole_s = choices.costs[0].work_s
            self._prices = RELATIVE_PRICES / self._whole_s
            self._waiting = np.zeros(len(self._prices))
        self.rate.arrive(now_s)
        self._recent.append(choices.table[:, choices.index_at(self._prices)])
        if slack_s < math.inf:
            old = self._slack_s or slack_s
            self._slack_s = old + _EWMA_OF_SLACK * (slack_s - old)

    def wait(self, choices: Choices) -> None:
        """Count a task that waits."""
        works_s = choices.table[1, choices.index_at(self._prices)]
        self._works_s[choices] = works_s
        self._waiting += works_s

    def leave(self, choices: Choices) -> None:
        """Take out a task that waited."""
        self._waiting -= self._works_s.pop(choices)
        if not self._works_s:
            self._waiting[:] = 0.0

    def waiting_s(self, price: float) -> float:
        """Return the device seconds of all who wait, each choosing at a price."""
        return float(np.interp(price, self._prices, self._waiting))

    def _update(self, nodes: int, now_s: float) -> None:
        """Solve for a new curve where it is time."""
        if now_s < self._next_s and nodes == self._nodes:
            return
        if not self._recent or not self._slack_s or nodes <= 0:
            return
        qualities, works, busy = np.mean(self._recent, axis=0)
        self._whole_s = float(works[0])
        mix = Mix(works, qualities, busy, self._slack_s)
        before = self.curve if nodes == self._nodes else None
        self.curve = solve_curve(mix, nodes, before, self._burst)
        young = len(self._recent) < _REMEMBERED
        self._next_s = now_s + (min(self._period_s, _YOUNG_S) if young else self._period_s)
        self._nodes = nodes

    def price(self, running_s: float, nodes: int, now_s: float) -> float:
        """Return the price at which what waits would be chosen now.

        The smallest price at which the wait, all who wait choosing by it, asks for no higher one.

        Args:
            running_s: device seconds that started rows still take.
            nodes: how many there are.
            now_s: the time.
        """
        self._update(nodes, now_s)
        curve = self.curve
        if curve is None:
            return 0.0
        # Rows that run side by side end one after the other: a new one waits less than their sum.
        spread_s = 0.5 * (nodes - 1) * self._whole_s
        waits = np.maximum(running_s - spread_s + self._waiting, 0.0) / nodes
        asked = np.interp(waits, curve.waits_s, curve.at_rate(self.rate.at(now_s)))
        over = asked - self._prices
        i = int((over <= 0).argmax())
        if over[i] > 0:
            return float(self._prices[-1])
        if i == 0:
            return 0.0
        # Linear between the two prices around the crossing.
        share = over[i - 1] / (over[i - 1] - over[i])
        return float(self._prices[i - 1] + share * (self._prices[i] - self._prices[i - 1]))
