"""How many decisions a second Argus's policy makes on one core, by the number of nodes.

A request is admitted, given its level and node, and ended: what a request costs the control plane
in all. Nodes are kept as busy as the load says; nothing else is measured, no network, no simulated
device. A decision is one of these: an admission, a start. Seconds are CPU seconds of this thread.
"""

from __future__ import annotations

import argparse
import dataclasses
import heapq
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import record

from argus.control.backlog import NodeBacklog, due_s
from argus.control.fleet import Fleet
from argus.control.offers import Offer
from argus.control.policies import make
from argus.control.policy import Policy, Start, Task
from argus.errors import ArgusError
from argus.sim.costs import control_levels, node_info, row_shapes
from argus.sim.prompts import draw_prompts
from argus.sim.published import published_profile
from argus.sim.setting import SimSetting

NODES = (8, 64, 512)
REQUESTS = 6000
WARM_UP = 1000


@dataclass(frozen=True, slots=True)
class Speed:
    """What was measured at one size.

    Attributes:
        nodes: how many.
        decisions_per_s: admissions and starts.
        request_us: microseconds of a request in all.
        answered: share that was started.
    """

    nodes: int
    decisions_per_s: float
    request_us: float
    answered: float


def measure(nodes: int, load: float, policy_name: str) -> Speed:
    """Return what a policy does on so many nodes of the published profile."""
    profile, setting = published_profile(), SimSetting(nodes=nodes)
    fleet, policy = Fleet(), make(policy_name)
    for index in range(nodes):
        fleet.add(NodeBacklog(node_info(profile, setting, index)), 1)
    prompts = draw_prompts(REQUESTS, seed=1)
    levels, shapes = control_levels(profile), row_shapes(profile)
    offers = [
        tuple(
            Offer(level, shape, 7.5, "ddim", quality, 50, 50)
            for level, shape, quality in zip(levels, shapes, predicted, strict=True)
        )
        for predicted in prompts.predicted.tolist()
    ]
    rng = np.random.default_rng(2)
    arrivals = rng.exponential(1 / (load * profile.capacity(nodes)), REQUESTS).cumsum().tolist()
    run = _Run(fleet, policy, profile.slo_s)
    for index, at_s in enumerate(arrivals):
        if index == WARM_UP:
            run.reset()
        run.arrive(Task(str(index), offers[index], at_s, at_s + profile.slo_s, index))
    measured = REQUESTS - WARM_UP
    return Speed(
        nodes, run.decisions / run.spent_s, 1e6 * run.spent_s / measured, run.starts / measured
    )


class _Run:
    def __init__(self, fleet: Fleet, policy: Policy, slo_s: float) -> None:
        self.fleet, self.policy, self.slo_s = fleet, policy, slo_s
        self.ends: list[tuple[float, int, Task, str]] = []
        self.plan_at_s = 0.0
        self.reset()

    def reset(self) -> None:
        self.decisions = self.starts = 0
        self.spent_s = 0.0

    def arrive(self, task: Task) -> None:
        while self.ends and self.ends[0][0] <= task.arrived_s:
            end_s, _, ended, node = heapq.heappop(self.ends)
            began = time.thread_time()
            self.fleet[node].remove(ended.id)
            self.policy.ended(ended, end_s)
            self._dispatch(end_s)
            self.spent_s += time.thread_time() - began
        began = time.thread_time()
        if task.arrived_s >= self.plan_at_s:
            self.plan_at_s = self.policy.plan(self.fleet, task.arrived_s)
        self.decisions += 1
        try:
            task.decision = self.policy.admit(task, self.fleet, task.arrived_s)
            self._dispatch(task.arrived_s)
        except ArgusError:
            pass
        self.spent_s += time.thread_time() - began

    def _dispatch(self, now_s: float) -> None:
        for act in self.policy.dispatch(self.fleet, now_s):
            self.decisions += 1
            if not isinstance(act, Start):
                continue
            self.starts += 1
            decision = act.decision
            node = self.fleet[decision.node]
            row_due_s = due_s(now_s, act.task.deadline_at_s)
            node.add(act.task.id, decision.offer.row, row_due_s)
            node.start(act.task.id)
            end = (now_s + decision.predicted_finish_s, act.task.order, act.task, decision.node)
            heapq.heappush(self.ends, end)


def main() -> None:
    """Print the table; with --out, write it there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--load", type=float, default=1.0)
    parser.add_argument("--policy", default="argus")
    asked = parser.parse_args()
    rows = [dataclasses.asdict(measure(nodes, asked.load, asked.policy)) for nodes in NODES]
    print(record.table(rows))
    if asked.out is not None:
        record.write(asked.out, "router", {f"{asked.policy} at load {asked.load:g}": rows})


if __name__ == "__main__":
    main()
