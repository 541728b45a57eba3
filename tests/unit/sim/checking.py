"""An outcome checked against what it was made from, with nothing of the simulator's own."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from argus.sim.outcome import Outcome, Status
from argus.sim.types import PromptTable, SimProfile, Trace

TOLERANCE_S = 1e-6


def check(
    outcome: Outcome,
    trace: Trace,
    prompts: PromptTable,
    profile: SimProfile,
    slo_s: float,
    slots: int = 1,
) -> None:
    """Assert what must hold of every schedule, whatever decided it."""
    rows = dict(zip(prompts.ids.tolist(), prompts.quality.tolist(), strict=True))
    assert outcome.prompt_id.tolist() == trace.prompt_id.tolist()
    assert outcome.arrival_s.tolist() == trace.arrival_s.tolist()
    spans: dict[int, list[tuple[float, float]]] = {}
    for i in range(len(outcome)):
        deadline = outcome.arrival_s[i] + slo_s
        assert outcome.deadline_s[i] == deadline
        if outcome.status[i] in (Status.REFUSED, Status.DROPPED):
            assert outcome.level[i] == outcome.node[i] == -1
            assert math.isnan(outcome.start_s[i])
            assert math.isnan(outcome.finish_s[i])
            assert outcome.quality[i] == 0
            continue
        level = profile.levels[outcome.level[i]]
        start, finish = outcome.start_s[i], outcome.finish_s[i]
        assert start >= outcome.arrival_s[i]
        assert outcome.quality[i] == rows[outcome.prompt_id[i]][outcome.level[i]]
        assert (outcome.status[i] == Status.ON_TIME) == (finish <= deadline)
        if slots == 1:
            assert abs(finish - start - level.seconds) < TOLERANCE_S
        spans.setdefault(int(outcome.node[i]), []).append((start, finish))
    for node in spans.values():
        assert most_at_once(node) <= slots


def most_at_once(spans: Sequence[tuple[float, float]]) -> int:
    """Return the most intervals that are open at one moment; they may touch."""
    ends = [(finish - TOLERANCE_S, -1) for _, finish in spans]
    depth = most = 0
    for _, change in sorted([*((start, 1) for start, _ in spans), *ends]):
        depth += change
        most = max(most, depth)
    return most


def queue_by_hand(arrival_s: Sequence[float], seconds: Sequence[float], nodes: int) -> np.ndarray:
    """Return the finish of each in a queue served in order by whichever node is free first."""
    free = [0.0] * nodes
    finish = []
    for at_s, took_s in zip(arrival_s, seconds, strict=True):
        node = free.index(min(free))
        free[node] = max(free[node], at_s) + took_s
        finish.append(free[node])
    return np.array(finish)


def waiting_of_mdc(rate: float, service_s: float, nodes: int, most: int = 400) -> float:
    """Return the mean waiting time of a queue with Poisson arrivals and constant service.

    In one service time exactly those leave that were in service at its start. So the number in
    the system obeys `n' = max(0, n − c) + arrivals`, whose stationary distribution is that at any
    time (Crommelin 1932); Little's law gives the wait.
    """
    chances = [math.exp(-rate * service_s)]
    for k in range(1, most):
        chances.append(chances[-1] * rate * service_s / k)
    step = np.zeros((most, most))
    for n in range(most):
        left = max(0, n - nodes)
        step[n, left:] = chances[: most - left]
        step[n, -1] += 1 - step[n].sum()
    stationary = np.full(most, 1 / most)
    for _ in range(14):
        step = step @ step
    stationary = stationary @ step
    queue = (np.maximum(0, np.arange(most) - nodes) * stationary).sum()
    return float(queue / rate)
