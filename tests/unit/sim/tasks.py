"""A fleet of the published setting and tasks for it, for policies driven by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from argus.control.backlog import NodeBacklog
from argus.control.fleet import Fleet
from argus.control.offers import Offer
from argus.control.policy import GiveUp, Policy, Start, Task
from argus.sim.costs import node_info, node_name
from argus.sim.published import published_profile
from argus.sim.requests import Offers
from argus.sim.setting import SimSetting
from argus.sim.types import PromptTable, SimProfile


@dataclass
class ByHand:
    """A policy with its fleet; the test says what happens and when."""

    policy: Policy
    nodes: int = 1
    profile: SimProfile = field(default_factory=published_profile)
    now_s: float = 0.0

    def __post_init__(self) -> None:
        self.fleet = Fleet()
        self.setting = SimSetting(nodes=self.nodes)
        for index in range(self.nodes):
            self.join(index)
        self.count = 0
        self.started: list[Start] = []
        self.given_up: list[GiveUp] = []

    def join(self, index: int) -> None:
        info = node_info(self.profile, self.setting, index)
        self.fleet.add(NodeBacklog(info), info.slots)

    def task(
        self,
        harmless: int = 0,
        similarity: float | None = None,
        deadline_s: float = math.inf,
    ) -> Task:
        """Return a task that loses nothing up to a level and a tenth a level beyond it."""
        quality = 1.0 - 0.1 * np.maximum(0, np.arange(len(self.profile.levels)) - harmless)
        self.count += 1
        return Task(
            id=f"t{self.count}",
            offers=self.offers(quality),
            arrived_s=self.now_s,
            deadline_at_s=self.now_s + deadline_s,
            order=self.count,
            similarity=similarity,
        )

    def offers(self, quality: np.ndarray) -> tuple[Offer, ...]:
        one = quality[None, :].astype(float)
        table = PromptTable.numbered(np.array([0.8]), one, one)
        return Offers(table, self.profile, self.setting).of(0)

    def admit(self, task: Task) -> Task:
        task.decision = self.policy.admit(task, self.fleet, self.now_s)
        return task

    def dispatch(self) -> list[Start]:
        """Carry out what the policy does now; return what it started."""
        new = []
        for act in self.policy.dispatch(self.fleet, self.now_s):
            if isinstance(act, Start):
                act.task.decision = act.decision
                self.fleet[act.decision.node].add(act.task.id, act.decision.offer.row)
                new.append(act)
            else:
                self.given_up.append(act)
        self.started += new
        return new

    def end(self, task: Task) -> None:
        assert task.decision is not None
        self.fleet[task.decision.node].remove(task.id)
        self.policy.ended(task, self.now_s)

    def lose(self, index: int) -> list[Task]:
        """Let a node go with its rows, as a driver does."""
        name = node_name(index)
        lost = [s.task for s in self.started if s.task.id in self.fleet[name].row_ids]
        self.fleet.remove(name)
        for task in lost:
            task.lost = True
            task.avoid.add(name)
            self.policy.put_back(task)
        return lost


def skip(start: Start) -> int:
    """Return the steps that a started row skips."""
    return start.decision.offer.skip
