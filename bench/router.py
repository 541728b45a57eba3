"""How many decisions a second Argus's policy makes on one core, by the number of nodes.

A request is admitted, given its level and node, and ended: what a request costs the control plane
in all. Nodes are kept as busy as the load says; nothing else is measured, no network, no simulated
device. A decision is one of these: an admission, a start. Seconds are CPU seconds of this thread.
They are measured several times over, sizes in turns: whoever else uses the machine can only add to
them, so the best run is the nearest to what decisions cost, and the median tells of the machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import heapq
import statistics
import time
from collections.abc import Sequence
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
RUNS = 5


@dataclass(frozen=True, slots=True)
class Speed:
    """What was measured at one size.

    Attributes:
        nodes: how many.
        decisions_per_s: admissions and starts, in the best run.
        median_per_s: the same in the middle one.
        request_us: microseconds of a request in all, in the best run.
        answered: share that was started.
    """

    nodes: int
    decisions_per_s: float
    median_per_s: float
    request_us: float
    answered: float


def measure(load: float, policy_name: str, runs: int = RUNS) -> list[Speed]:
    """Return what a policy does on each number of nodes of the published profile."""
    found: dict[int, list[_Run]] = {nodes: [] for nodes in NODES}
    for _ in range(runs):
        for nodes, done in found.items():
            done.append(run(nodes, load, policy_name))
    return [_speed(nodes, done) for nodes, done in found.items()]


def _speed(nodes: int, runs: Sequence[_Run]) -> Speed:
    measured = REQUESTS - WARM_UP
    best = min(runs, key=lambda one: one.spent_s)
    rates = [one.decisions / one.spent_s for one in runs]
    return Speed(
        nodes,
        decisions_per_s=best.decisions / best.spent_s,
        median_per_s=statistics.median(rates),
        request_us=1e6 * best.spent_s / measured,
        answered=best.starts / measured,
    )


def run(nodes: int, load: float, policy_name: str) -> _Run:
    """Let a policy decide for all requests on so many nodes; return the run, with its counts."""
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
    deciding = _Run(fleet, policy, profile.slo_s)
    for index, at_s in enumerate(arrivals):
        if index == WARM_UP:
            deciding.reset()
        deciding.arrive(Task(str(index), offers[index], at_s, at_s + profile.slo_s, index))
    return deciding


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
    rows = [dataclasses.asdict(speed) for speed in measure(asked.load, asked.policy)]
    print(record.table(rows))
    if asked.out is not None:
        record.write(asked.out, "router", {f"{asked.policy} at load {asked.load:g}": rows})


if __name__ == "__main__":
    main()
