"""Proteus (Ahmad et al., ASPLOS 2024): accuracy scaling for the mean prompt.

A MILP chooses how many nodes serve which level and how much each serves, so that quality is highest
and demand is met; it is solved again every 10 s for the exponentially weighted average of demand
and 5 % more. Requests are sent to nodes at random, by their shares. Its batches adapt to what
waits: here nodes that batch take what waits with every step.
"""

from __future__ import annotations

import itertools
import random

from argus.control.policies.demand import CountedDemand
from argus.control.policies.options import PolicyOptions
from argus.control.policies.planned import PlannedPolicy
from argus.control.policy import Task

PERIOD_S = 10.0
HEADROOM = 1.05
WEIGHT = 0.5
"""Of the newest count; it is not published."""


class ProteusPolicy(PlannedPolicy):
    """See the module's text."""

    def __init__(self, options: PolicyOptions) -> None:
        super().__init__(options, PERIOD_S, HEADROOM, CountedDemand(WEIGHT))
        self._lots = random.Random(options.seed)

    def node(self, task: Task, able: list[str], now_s: float) -> str:
        """Return a node drawn by the rates that the plan gives them."""
        sums = list(itertools.accumulate(self.rate_of.get(name, 0.0) for name in able))
        if not sums[-1]:
            return self._lots.choice(able)
        return self._lots.choices(able, cum_weights=sums)[0]


def make_proteus(options: PolicyOptions) -> ProteusPolicy:
    """Return Proteus."""
    return ProteusPolicy(options)
