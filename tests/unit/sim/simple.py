"""Policies and inputs simple enough to be worked out by hand."""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Iterator

import numpy as np

from argus.control.backlog import NodeBacklog
from argus.control.fleet import Fleet
from argus.control.policy import GiveUp, Start, Task
from argus.control.router import Decision
from argus.errors import UnavailableError
from argus.sim.types import PromptTable, SimProfile, Trace


def same_prompts(profile: SimProfile, n: int = 1) -> PromptTable:
    """Return prompts of which each has the ladder's mean qualities, predicted rightly."""
    quality = np.tile([level.quality for level in profile.levels], (n, 1))
    ids = np.array([f"p{i}" for i in range(n)])
    return PromptTable(ids, np.full(n, 0.8), quality, quality)


def trace_of(arrival_s: list[float] | np.ndarray, prompt: str = "p0") -> Trace:
    """Return a trace in which all ask for one prompt."""
    return Trace(np.array(arrival_s, dtype=float), np.full(len(arrival_s), prompt))


class FixedLevel:
    """One level for all, first come first served, on the first node with room; it drops nothing."""

    def __init__(self, level: int = 0) -> None:
        self.level = level
        self.line: list[tuple[bool, float, int, Task]] = []

    def admit(self, task: Task, fleet: Fleet, now_s: float) -> Decision:
        if not len(fleet):
            raise UnavailableError("no node is connected")
        self._join(task)
        return Decision(task.offers[self.level], next(iter(fleet)).info.name, math.nan)

    def dispatch(self, fleet: Fleet, now_s: float) -> Iterator[Start | GiveUp]:
        while self.line and (nodes := list(fleet.with_room())):
            task = self.line[0][3]
            act = self.act(task, nodes, now_s)
            del self.line[0]
            yield act

    def act(self, task: Task, nodes: list[NodeBacklog], now_s: float) -> Start | GiveUp:
        offer = task.offers[self.level]
        return Start(task, Decision(offer, nodes[0].info.name, nodes[0].idle_s(offer.row)))

    def withdraw(self, task: Task) -> None:
        self.line = [entry for entry in self.line if entry[3] is not task]

    def put_back(self, task: Task) -> None:
        self._join(task)

    def fetched(self, task: Task, hit: bool) -> None:
        """Do nothing."""

    def ended(self, task: Task, now_s: float, made: bool = True) -> None:
        pass

    def plan(self, fleet: Fleet, now_s: float) -> float:
        return math.inf

    def _join(self, task: Task) -> None:
        insort(self.line, (not task.lost, task.deadline_at_s, task.order, task))


class BestOnTime(FixedLevel):
    """The best level that is on time on the node that is done first; gives up what cannot be."""

    def act(self, task: Task, nodes: list[NodeBacklog], now_s: float) -> Start | GiveUp:
        left_s = task.deadline_at_s - now_s
        for offer in task.offers:
            finish_s, name = min((node.finish_s(offer.row), node.info.name) for node in nodes)
            if finish_s <= left_s:
                return Start(task, Decision(offer, name, finish_s))
        return GiveUp(task, UnavailableError("too late"))
