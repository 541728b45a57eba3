"""The price of a device second now: the curve of the recent mix, read at the present backlog."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from argus.control.arrivals import ArrivalRate
from argus.control.choices import Choices, ChoicesTable
from argus.control.price_curve import Mix, PriceCurve, solve_curve

Floats = NDArray[np.float64]

_RATIO = (4.0 / 0.003) ** (1 / 38)
RELATIVE_PRICES: Floats = np.concatenate(([0.0], 0.003 * _RATIO ** np.arange(54)))
"""Prices that are looked at, relative to one unit of quality for the work of a whole request. The
highest, 68, are for ladders whose cheapest level is a hundredth of it."""
_REMEMBERED = 192
_FEWEST = 16
"""Requests with a deadline that are seen before the first curve, and between two."""
_YOUNG_S = 1.0
"""Time between two curves while little was seen."""
_EVERY = 3
"""Of the prices looked at, the curve is made of so many less."""
_PLANNED_LOAD = 0.95
_LEAST_LOAD, _LOAD_STEP = 0.01, 0.02
_EWMA_OF_SLACK = 0.02


class Pricing:
    """Keeps what the price depends on: recent requests, their rate, and what waits.

    Args:
        memory_s: of the quick half of the arrival rate.
        period_s: seconds between two curves.
        burst: arrivals that the curve takes to come together.
    """

    def __init__(self, memory_s: float, period_s: float, burst: float) -> None:
        self.rate = ArrivalRate(memory_s)
        self.curve: PriceCurve | None = None
        self.planned_price = 0.0
        """Price at which the nodes can just make what was expected to come at the last plan."""
        self._period_s = period_s
        self._burst = burst
        self._prices: Floats = np.zeros(0)
        self._price_list: list[float] = []
        self._recent: deque[Choices] = deque(maxlen=_REMEMBERED)
        self._earlier: Floats | None = None
        """Mean of what another process remembered; it counts as one request."""
        self._waiting: Floats = np.zeros(0)
        self._works_s: dict[Choices, Floats] = {}
        # Most tasks are started as they come: nothing is worked out for one before it is asked.
        self._uncounted: dict[Choices, None] = {}
        self._slack_s = 0.0
        self._new = 0
        self._whole_s = 0.0
        self._grid_s = 0.0
        self._nodes = 0.0
        self._solved_s = 0.0
        self._rows: dict[int, list[float]] = {}

    def arrive(self, choices: Choices, slack_s: float, now_s: float) -> None:
        """Count a new request; without a deadline its slack is infinite."""
        if not len(self._prices):
            self._look_at(choices.costs[0].work_s)
        self.rate.arrive(now_s)
        self._recent.append(choices)
        if slack_s < math.inf:
            self._new += 1
            old = self._slack_s or slack_s
            self._slack_s = old + _EWMA_OF_SLACK * (slack_s - old)

    def _look_at(self, whole_s: float) -> None:
        """Settle the prices that are looked at, by the work of a whole request."""
        self._whole_s = self._grid_s = whole_s
        self._prices = RELATIVE_PRICES / whole_s
        self._price_list = self._prices.tolist()
        self._waiting = np.zeros(len(self._prices))

    def wait(self, choices: Choices) -> None:
        """Count a task that waits, which need not have arrived here: another process's, say."""
        if not len(self._prices):
            self._look_at(choices.costs[0].work_s)
        self._uncounted[choices] = None

    def leave(self, choices: Choices) -> None:
        """Take out a task that waited."""
        if choices in self._uncounted:
            del self._uncounted[choices]
            return
        self._waiting -= self._works_s.pop(choices)
        if not self._works_s:
            self._waiting[:] = 0.0

    def waiting_s(self, price: float) -> float:
        """Return the device seconds of all who wait, each choosing at a price."""
        if not len(self._prices):
            return 0.0
        works_s, prices = self._counted(), self._price_list
        above = bisect_left(prices, price, 1, len(prices) - 1)
        low_s, high_s = works_s[above - 1 : above + 1].tolist()
        share = (price - prices[above - 1]) / (prices[above] - prices[above - 1])
        return float(low_s + min(max(share, 0.0), 1.0) * (high_s - low_s))

    def _counted(self, but: Choices | None = None) -> Floats:
        """Return the device seconds of all who wait, by price; `but` need not be counted."""
        if len(self._uncounted) > (but in self._uncounted):
            for choices in [each for each in self._uncounted if each is not but]:
                del self._uncounted[choices]
                works_s = self._works_s[choices] = choices.works_at(self._prices)
                self._waiting += works_s
        return self._waiting

    def load(self, now_s: float) -> float:
        """Return the work that comes, relative to what the nodes of the last plan can do."""
        return self.rate.at(now_s) * self._whole_s / self._nodes if self._nodes else 0.0

    def age_s(self, now_s: float) -> float | None:
        """Return the age of the curve; None before the first."""
        return None if self.curve is None else now_s - self._solved_s

    def plan(self, nodes: float, now_s: float) -> float:
        """Solve for a new curve; return when to do so again."""
        young = len(self._recent) < _REMEMBERED
        if self._new < _FEWEST or nodes <= 0:
            return now_s + (_YOUNG_S if young else self._period_s)
        recent = ChoicesTable(self._recent)
        qualities, works, busy = self._mix(recent, self._prices[::_EVERY])
        self._whole_s = float(works[0])
        mix = Mix(works, qualities, busy, self._slack_s)
        self.curve = solve_curve(mix, nodes, self.curve, self._burst)
        self._nodes, self._solved_s, self._new = nodes, now_s, 0
        rate = self.rate.at(now_s)
        work_s = nodes * _PLANNED_LOAD / rate if rate else math.inf
        self.planned_price = self._price_for(work_s, recent, works)
        self._rows.clear()
        return now_s + (min(self._period_s, _YOUNG_S) if young else self._period_s)

    def price(self, choices: Choices, running_s: float, nodes: float, now_s: float) -> float:
        """Return the price at which a task is to choose now.

        The smallest price at which the wait, all others who wait choosing by it, asks for no
        higher one.

        Args:
            choices: of the task, which may be in the line or not.
            running_s: device seconds that started rows still take.
            nodes: how many there are.
            now_s: the time.
        """
        if self.curve is None or not nodes:
            return 0.0
        asked = self._row(self.rate.at(now_s) * self._whole_s / nodes)
        # Rows that run side by side end one after the other: a new one waits less than their sum.
        base_s = running_s - 0.5 * (nodes - 1) * self._whole_s
        waiting = self._counted(but=choices)
        own = self._works_s.get(choices)
        if own is not None:
            waiting = waiting - own
        works_s = waiting.tolist()
        per_cell_s = nodes * self.curve.width_s
        prices, last = self._price_list, len(asked) - 1
        low, high = 0, len(prices) - 1
        over = before = 0.0
        while low <= high:
            # By how much the wait at a price asks for a higher one.
            middle = (low + high) // 2
            place = (base_s + works_s[middle]) / per_cell_s
            if place <= 0:
                at = asked[0] - prices[middle]
            elif place >= last:
                at = asked[last] - prices[middle]
            else:
                cell = int(place)
                at = asked[cell] + (place - cell) * (asked[cell + 1] - asked[cell])
                at -= prices[middle]
            if at <= 0:
                high, over = middle - 1, at
            else:
                low, before = middle + 1, at
        if low == 0:
            return prices[0]
        if low == len(prices):
            return prices[-1]
        # Linear between the two prices around the crossing.
        share = before / (before - over)
        return prices[low - 1] + share * (prices[low] - prices[low - 1])

    def _price_for(self, work_s: float, recent: ChoicesTable, works_s: Floats) -> float:
        """Return the least price at which requests take at most so many device seconds on average;
        the highest where there is none.

        Args:
            work_s: device seconds.
            recent: requests.
            works_s: device seconds that they take at every `_EVERY`th price.
        """
        at = int((works_s <= work_s).argmax()) if works_s[-1] <= work_s else len(works_s)
        first = max(0, (at - 1) * _EVERY + 1)
        between = self._prices[first : at * _EVERY]
        if len(between):
            enough = self._mix(recent, between)[1] <= work_s
            if enough.any():
                return float(between[enough.argmax()])
        return float(self._prices[min(at * _EVERY, len(self._prices) - 1)])

    def _mix(self, recent: ChoicesTable, prices: Floats) -> Floats:
        """Return (3, prices) the mean of what recent requests would choose at each."""
        table = recent.at(prices)
        if self._earlier is not None:
            known = self._prices.searchsorted(prices)
            table = np.concatenate([table, self._earlier[None, :, known]])
        return np.asarray(np.mean(table, axis=0))

    def state(self, now_s: float) -> dict[str, Any]:
        """Return what prices depend on, ready for JSON; little before requests have come."""
        if not self._recent and self._earlier is None:
            return {}
        mix = self._mix(ChoicesTable(self._recent), self._prices)
        state: dict[str, Any] = {
            "rate": self.rate.state(now_s),
            "whole_s": self._whole_s,
            "grid_s": self._grid_s,
            "slack_s": self._slack_s,
            "mix": [[float(f"{x:.6g}") for x in row] for row in mix],
        }
        if self.curve is not None:
            state["curve"] = self.curve.state() | {
                "nodes": self._nodes,
                "planned_price": self.planned_price,
                "age_s": now_s - self._solved_s,
            }
        return state

    def restore(self, state: Mapping[str, Any], at_s: float) -> None:
        """Go on with what another process had at a time on this clock.

        Raises:
            ValueError, KeyError, TypeError, OverflowError: it makes no sense; nothing of it is
                taken then.
        """
        if not state:
            return
        whole_s, mix = float(state["whole_s"]), np.array(state["mix"], np.float64)
        rate, seen_s, forecast = map(float, state["rate"])
        slack_s, grid_s = float(state["slack_s"]), float(state["grid_s"])
        numbers = np.array([whole_s, grid_s, rate, seen_s, forecast, slack_s])
        if mix.shape != (3, len(RELATIVE_PRICES)) or not (
            np.isfinite(mix).all() and np.isfinite(numbers).all() and (numbers >= 0).all()
        ):
            raise ValueError("the mix of requests makes no sense")
        curve = state.get("curve")
        if whole_s <= 0 or grid_s <= 0 or rate <= 0 or curve is None:
            return
        solved = PriceCurve.restored(curve, len(RELATIVE_PRICES[::_EVERY]))
        nodes, planned, age_s = (float(curve[key]) for key in ("nodes", "planned_price", "age_s"))
        known = np.array([nodes, planned, age_s])
        if not np.isfinite(known).all() or (known < 0).any() or nodes == 0:
            raise ValueError("what is known beside the price curve makes no sense")
        self.curve, self._nodes, self.planned_price = solved, nodes, planned
        self._solved_s = at_s - age_s
        self._slack_s = slack_s
        self._look_at(grid_s)
        self._whole_s = whole_s
        self._earlier = mix
        self.rate.restore(rate, seen_s, forecast, at_s)

    def _row(self, load: float) -> list[float]:
        """Return the prices by wait, for the load to within two in a hundred."""
        key = round(math.log(max(load, _LEAST_LOAD)) / _LOAD_STEP)
        row = self._rows.get(key)
        if row is None:
            assert self.curve is not None
            row = self._rows[key] = self.curve.at_load(math.exp(key * _LOAD_STEP))
        return row
