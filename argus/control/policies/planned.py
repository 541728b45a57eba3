"""Systems that give each node a level by the exact published allocation, from time to time."""

from __future__ import annotations

import math

from argus.control.fleet import Fleet
from argus.control.groups import hardware
from argus.control.policies.demand import CountedDemand
from argus.control.policies.early import EarlyPolicy
from argus.control.policies.node_levels import Alike, NodeLevels, node_levels
from argus.control.policies.options import PolicyOptions
from argus.control.policies.periods import next_plan_s
from argus.control.policy import Task

_GRAIN = 100
"""Demand is rounded up to so many parts of what the best level serves: plans then come again."""


class PlannedPolicy(EarlyPolicy):
    """Each node makes everything at one level, which the plan names.

    Args:
        options: settings.
        period_s: between plans, unless the options say otherwise.
        headroom: planned demand over expected demand, likewise.
        demand: the estimate.
    """

    def __init__(
        self, options: PolicyOptions, period_s: float, headroom: float, demand: CountedDemand
    ) -> None:
        super().__init__(options)
        self.demand = demand
        self.level_of: dict[str, int] = {}
        self.rate_of: dict[str, float] = {}
        """Pictures a second that each node is to make."""
        self.shares: tuple[float, ...] = ()
        """By level, of all pictures."""
        self._period_s = options.period(period_s)
        self._headroom = options.planned(headroom)

    def level(self, task: Task, node: str) -> int:
        """Return the node's level."""
        return self.level_of.get(node, 0)

    def arrived(self, task: Task) -> None:
        """Count it."""
        self.demand.arrive()

    def nodes_changed(self, fleet: Fleet, now_s: float) -> None:
        """Plan anew for what is known of demand."""
        self.allocate(fleet)

    def plan(self, fleet: Fleet, now_s: float) -> float:
        """Give the nodes new levels; what waits there is made at those."""
        self._refresh(fleet, now_s)
        self.demand.update(now_s)
        self.allocate(fleet)
        return next_plan_s(now_s, self._period_s)

    def allocate(self, fleet: Fleet) -> None:
        """Plan for the present demand and nodes."""
        if not self.seen.levels:
            return
        kinds = self._kinds(fleet)
        costs = tuple(
            Alike(len(names), seconds) for names, seconds in kinds if min(seconds) < math.inf
        )
        kinds = [kind for kind in kinds if min(kind[1]) < math.inf]
        if not costs:
            return
        best = sum(kind.nodes / kind.seconds[0] for kind in costs)
        grain = (best or 1.0) / _GRAIN
        demand = math.ceil(self.demand.rate * self._headroom / grain) * grain
        found = node_levels(tuple(level.quality for level in self.seen.levels), costs, demand)
        self._assign([names for names, _ in kinds], found)
        self.relabel(fleet)

    def _kinds(self, fleet: Fleet) -> list[tuple[list[str], tuple[float, ...]]]:
        """Return the nodes that cost the same, with their seconds by level."""
        kinds: dict[object, list[str]] = {}
        for name in self.queues.by_node:
            kinds.setdefault(hardware(fleet[name]), []).append(name)
        shapes = [self.seen.shapes[level.name] for level in self.seen.levels]
        found = []
        for names in kinds.values():
            node = fleet[names[0]]
            seconds = (node.device_s(s) if node.holds(s.variant) else math.inf for s in shapes)
            found.append((names, tuple(round(s, 6) for s in seconds)))
        return found

    def _assign(self, kinds: list[list[str]], found: NodeLevels) -> None:
        """Name the nodes of each level; as many as possible stay where they are."""
        self.shares = found.shares
        before, self.level_of, self.rate_of = self.level_of, {}, {}
        for names, counts, rates in zip(kinds, found.counts, found.rates, strict=True):
            left = list(counts)
            movers = []
            for name in names:
                level = before.get(name, -1)
                if level >= 0 and left[level]:
                    left[level] -= 1
                    self.level_of[name] = level
                else:
                    movers.append(name)
            free = [level for level, count in enumerate(left) for _ in range(count)]
            self.level_of.update(zip(movers, free, strict=True))
            for name in names:
                level = self.level_of[name]
                self.rate_of[name] = rates[level] / counts[level]
