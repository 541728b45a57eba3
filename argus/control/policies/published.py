"""Argus as published (arXiv 2511.06724), and the same without knowledge of prompts (PAC).

Both give each node a level once a minute by the exact allocation for the load of the minute before.
PAC draws a prompt's level by the planned shares. Argus predicts how much approximation each prompt
bears; its aligner moves the predicted shares to the planned ones, so that a prompt's level is drawn
by the odds of what was predicted for it. A prompt then waits at one of the nodes of its level, the
one that is done first. Period, load predictor and labels of the classifier are not published: here
a minute, the count of the last period, and the deepest level that is predicted to lose nothing.
"""

from __future__ import annotations

import random

from argus.control.aligner import greedy
from argus.control.fleet import Fleet
from argus.control.policies.demand import CountedDemand
from argus.control.policies.options import PolicyOptions
from argus.control.policies.planned import PlannedPolicy
from argus.control.policy import Task

PERIOD_S = 60.0
HEADROOM = 1.0
_HARMLESS = 1e-3
"""Predicted quality that a level may lose and still count as harmless."""


class PacPolicy(PlannedPolicy):
    """Levels drawn by the planned shares."""

    def __init__(self, options: PolicyOptions) -> None:
        super().__init__(options, PERIOD_S, HEADROOM, CountedDemand())
        self._lots = random.Random(options.seed)

    def node(self, task: Task, able: list[str], now_s: float) -> str:
        """Return the node of the drawn level that is done first."""
        if not self.shares:
            return self.queues.shortest(able, now_s)
        odds = self.odds(task)
        drawn = self._lots.choices(range(len(odds)), odds)[0]
        nearest = min(
            (self.level_of.get(name, 0) for name in able),
            key=lambda rank: (abs(rank - drawn), -rank),
        )
        at = [name for name in able if self.level_of.get(name, 0) == nearest]
        return self.queues.shortest(at, now_s)

    def odds(self, task: Task) -> tuple[float, ...]:
        """Return by level how likely a task gets it."""
        return self.shares


class PublishedArgusPolicy(PacPolicy):
    """Levels drawn by what was predicted for the prompt, aligned with the plan."""

    def __init__(self, options: PolicyOptions) -> None:
        super().__init__(options)
        self._predicted: list[int] = []
        """How many were predicted at each level since the last plan."""
        self._odds: tuple[tuple[float, ...], ...] = ()

    def arrived(self, task: Task) -> None:
        """Count it, and what is predicted for it."""
        super().arrived(task)
        missing = len(self.seen.levels) - len(self._predicted)
        self._predicted.extend([0] * missing)
        self._predicted[self.harmless(task)] += 1

    def plan(self, fleet: Fleet, now_s: float) -> float:
        """Allocate, and align what was predicted lately with it."""
        next_s = super().plan(fleet, now_s)
        total = sum(self._predicted)
        if total and len(self.shares) == len(self._predicted):
            shares = [count / total for count in self._predicted]
            nothing = [[0.0] * len(shares) for _ in shares]
            self._odds = greedy(shares, self.shares, nothing).odds
            self._predicted = [0] * len(shares)
        return next_s

    def odds(self, task: Task) -> tuple[float, ...]:
        """Return the odds of the level predicted for the task."""
        rank = self.harmless(task)
        return self._odds[rank] if rank < len(self._odds) else self.shares

    def harmless(self, task: Task) -> int:
        """Return the rank of the deepest level that is predicted to lose nothing."""
        offers = task.offers
        least = offers[0].quality - _HARMLESS
        return max(self.seen.rank(o.level.name) for o in offers if o.quality >= least)


def make_pac(options: PolicyOptions) -> PacPolicy:
    """Return PAC."""
    return PacPolicy(options)


def make_argus_paper(options: PolicyOptions) -> PublishedArgusPolicy:
    """Return Argus as published."""
    return PublishedArgusPolicy(options)
