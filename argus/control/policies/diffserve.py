"""DiffServe (Ahmad et al., MLSys 2025, arXiv 2411.15381): a cascade of two levels.

Every request is made at the light level first; a discriminator scores the picture, and below a
threshold the heavy level makes it anew. Nodes are light or heavy. Every 5 s their split and the
threshold are chosen together: the highest threshold at which both keep up with demand and the time
of both passes, with what waits (Little's law), is within the latency promised. Demand is an
exponentially weighted average with 20 % added.

A second pass is more than `Policy` knows of; see `Reviewer` there. The threshold is set by the
share of pictures that it defers, as found among the last ones; the published profile has 201 such
pairs. A picture whose second pass could not be on time is handed out as it is.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from argus.control.fleet import Fleet
from argus.control.policies.demand import CountedDemand
from argus.control.policies.early import EarlyPolicy
from argus.control.policies.options import PolicyOptions
from argus.control.policies.periods import next_plan_s
from argus.control.policy import Task

PERIOD_S = 5.0
HEADROOM = 1.2
CENTRE_OF_MASS = 2.1
"""Of the average of demand, in counts."""
DISCRIMINATOR_S = 0.02
THRESHOLDS = 201
_REMEMBERED = 500


class DiffServePolicy(EarlyPolicy):
    """See the module's text."""

    def __init__(self, options: PolicyOptions) -> None:
        super().__init__(options)
        self._demand = CountedDemand(1.0 / (1.0 + CENTRE_OF_MASS))
        self._scores: deque[float] = deque(maxlen=_REMEMBERED)
        self._deferred: set[str] = set()
        """Tasks that wait for their second pass or are in it."""
        self._heavy: frozenset[str] = frozenset()
        self._slo_s = math.inf
        self._light = 0
        self.threshold = 0.0
        """Pictures with a lower score are made anew."""

    def level(self, task: Task, node: str) -> int:
        """Return the heavy level's rank for a second pass, else the light one's."""
        return 0 if task.id in self._deferred else self._light

    def levels_changed(self, fleet: Fleet) -> None:
        """Find the light level: the fastest."""
        self._light = self.seen.fastest(fleet)

    def node(self, task: Task, able: list[str], now_s: float) -> str:
        """Return the node for this pass that is done first."""
        is_second = task.id in self._deferred
        own = [name for name in able if (name in self._heavy) == is_second]
        return self.queues.shortest(own or able, now_s)

    def arrived(self, task: Task) -> None:
        """Count it."""
        self._demand.arrive()
        if task.deadline_at_s < math.inf:
            self._slo_s = task.deadline_at_s - task.arrived_s

    def ended(self, task: Task, now_s: float, made: bool = True) -> None:
        """Note that a pass is over."""
        super().ended(task, now_s, made)
        self._deferred.discard(task.id)

    def withdraw(self, task: Task) -> None:
        """Forget a task that waits."""
        super().withdraw(task)
        self._deferred.discard(task.id)

    def review(self, task: Task, score: float, fleet: Fleet, now_s: float) -> bool:
        """Return whether a picture is handed out; else the task waits for its second pass."""
        assert task.decision is not None
        if self.seen.rank(task.decision.offer.level.name) == 0:
            return True
        self._scores.append(score)
        if score >= self.threshold or not self._can_redo(task, fleet, now_s):
            return True
        self._deferred.add(task.id)
        if self.bind(task, fleet, now_s) is None:
            self.queues.stranded.append(task)
        return False

    def _can_redo(self, task: Task, fleet: Fleet, now_s: float) -> bool:
        shape = self.seen.shapes[self.seen.levels[0].name]
        finishes = [
            self.queues.by_node[name].wait_s(now_s) + fleet[name].idle_s(shape)
            for name in self._heavy & set(self.queues.by_node)
            if fleet[name].holds(shape.variant)
        ]
        return min(finishes, default=math.inf) <= task.deadline_at_s - now_s

    # -- the plan -------------------------------------------------------------------------------

    def plan(self, fleet: Fleet, now_s: float) -> float:
        """Split the nodes and set the threshold."""
        self._refresh(fleet, now_s)
        self._demand.update(now_s)
        self._split(fleet, now_s)
        return next_plan_s(now_s, self.options.period(PERIOD_S))

    def nodes_changed(self, fleet: Fleet, now_s: float) -> None:
        """Split anew."""
        self._split(fleet, now_s)

    def _split(self, fleet: Fleet, now_s: float) -> None:
        if not self.seen.levels:
            return
        shapes = [self.seen.shapes[level.name] for level in self.seen.levels]
        light, heavy = fleet.costs(shapes[self._light]), fleet.costs(shapes[0])
        names = list(self.queues.by_node)
        if light is None or heavy is None or not names:
            return
        rate = self._demand.rate * self.options.planned(HEADROOM)
        light_left = sum(
            q.wait_s(now_s) for n, q in self.queues.by_node.items() if n not in self._heavy
        )
        heavy_left = sum(
            q.wait_s(now_s) for n, q in self.queues.by_node.items() if n in self._heavy
        )
        passes_s = light.busy_s + DISCRIMINATOR_S + heavy.busy_s
        best = (0.0, 0)
        for count in range(1, len(names)):
            others = len(names) - count
            waits_s = light_left / others + heavy_left / count
            if rate * light.work_s > others or passes_s + waits_s > self._slo_s:
                continue
            share = min(1.0, count / (rate * heavy.work_s)) if rate else 1.0
            best = max(best, (share, -count))
        share, count = best[0], -best[1]
        self.threshold = self._threshold(share)
        self._name_heavy(names, count)

    def _threshold(self, share: float) -> float:
        """Return the highest of the thresholds that defers no more than a share."""
        if not self._scores or share >= 1.0:
            return math.inf if share else 0.0
        at = math.floor(share * (THRESHOLDS - 1)) / (THRESHOLDS - 1)
        return float(np.quantile(self._scores, at, method="lower"))

    def _name_heavy(self, names: list[str], count: int) -> None:
        """Name the heavy nodes; as many as possible stay. Whoever waits at the wrong one moves."""
        before = self._heavy
        ordered = sorted(names, key=lambda name: name not in before)
        self._heavy = frozenset(ordered[:count])
        for name in (before ^ self._heavy) & set(names):
            self.queues.strand(name)


def make_diffserve(options: PolicyOptions) -> DiffServePolicy:
    """Return DiffServe."""
    return DiffServePolicy(options)
