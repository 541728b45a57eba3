"""Sommelier (Guo et al., SIGMOD 2022), as a policy that switches between two levels.

Sommelier answers queries for a model of at least some accuracy within some resources. Against load
that is one switch for the whole cluster: from the best level to the fastest one that still has the
quality asked for, when demand comes near what the best can serve, and back well below that.
"""

from __future__ import annotations

from argus.control.fleet import Fleet
from argus.control.policies.demand import CountedDemand
from argus.control.policies.early import EarlyPolicy
from argus.control.policies.options import PolicyOptions
from argus.control.policies.periods import next_plan_s
from argus.control.policy import Task

PERIOD_S = 30.0
HEADROOM = 1.1
TARGET = 0.94
"""Mean quality that is asked for; the published peak is served at 0.922."""
_BACK = 0.85
"""Demand at which the best level returns, relative to that at which it went."""


class SommelierPolicy(EarlyPolicy):
    """See the module's text."""

    def __init__(self, options: PolicyOptions) -> None:
        super().__init__(options)
        self._demand = CountedDemand()
        self._is_low = False
        self._low = 0

    def level(self, task: Task, node: str) -> int:
        """Return the level of the moment."""
        return self._low if self._is_low else 0

    def levels_changed(self, fleet: Fleet) -> None:
        """Find the fastest level that is good enough."""
        self._low = self.seen.fastest(fleet, TARGET)

    def arrived(self, task: Task) -> None:
        """Count it."""
        self._demand.arrive()

    def plan(self, fleet: Fleet, now_s: float) -> float:
        """Switch where demand says so."""
        rate = self._demand.update(now_s) * self.options.planned(HEADROOM)
        capacity = self._capacity(fleet)
        was = self._is_low
        self._is_low = rate > capacity * (_BACK if was else 1.0)
        if was != self._is_low:
            self._refresh(fleet, now_s)
            self.relabel(fleet)
        return next_plan_s(now_s, self.options.period(PERIOD_S))

    def _capacity(self, fleet: Fleet) -> float:
        """Return the pictures a second of the best level."""
        if not self.seen.levels:
            return float("inf")
        shape = self.seen.shapes[self.seen.levels[0].name]
        able = [n for n in fleet if not n.draining and n.holds(shape.variant)]
        return sum(1.0 / node.device_s(shape) for node in able)


def make_sommelier(options: PolicyOptions) -> SommelierPolicy:
    """Return Sommelier's switch."""
    return SommelierPolicy(options)
