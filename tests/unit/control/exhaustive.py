"""The allocator's problem solved in other ways: every holding of every node, or a second model."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from argus.control.allocation import Group, Holding, Problem

Nodes = tuple[tuple[Group, Holding, Holding], ...]
"""Each single node with what it holds before and after."""


def reachable(problem: Problem, group: Group, before: Holding) -> list[Holding]:
    """Return every holding that fits and takes at most two loads, useful or not."""
    variants = sorted(before | set(group.load_s or {}))
    found = [before]
    for count in range(len(variants) + 1):
        for some in itertools.combinations(variants, count):
            after = frozenset(some)
            fits = sum(problem.weights_bytes.get(v, 0.0) for v in after) <= group.memory_bytes
            if fits and len(after - before) <= 2 and after != before:
                found.append(after)
    return found


def residencies(problem: Problem) -> Iterator[Nodes]:
    """Yield every way the nodes may go, equal nodes in one order only."""
    per_kind = []
    for group in problem.groups:
        for before, count in group.present.items():
            targets = reachable(problem, group, before)
            ways = itertools.combinations_with_replacement(targets, count)
            per_kind.append([tuple((group, before, after) for after in way) for way in ways])
    for way in itertools.product(*per_kind):
        yield tuple(itertools.chain.from_iterable(way))


def load_s(node: tuple[Group, Holding, Holding]) -> float:
    group, before, after = node
    return sum((group.load_s or {})[variant] for variant in after - before)


def best_flows(problem: Problem, nodes: Nodes) -> float:
    """Return the objective with each node's holding given: a flow for each class, level, node."""
    flows = [
        (c, level, n)
        for c, kind in enumerate(problem.classes)
        for level in problem.levels
        for n, (group, _, after) in enumerate(nodes)
        if level.name in kind.quality and level.name in group.seconds and level.variant in after
    ]
    kinds = problem.classes
    gain, room, asked, floors = [], [], [], []
    for c, level, n in flows:
        kind, group = kinds[c], nodes[n][0]
        gain.append(kind.quality[level.name] + kind.unmet_loss)
        room.append([group.seconds[level.name] * (n == m) for m in range(len(nodes))])
        asked.append([float(c == d) for d in range(len(kinds))])
        floors.append(
            [(kind.floor - kind.quality[level.name]) * (c == d) for d in range(len(kinds))]
        )
    moved = sum(problem.move_loss * load_s(node) / problem.horizon_s for node in nodes)
    missed = sum(kind.unmet_loss * kind.rate_per_s for kind in kinds)
    if not flows:
        return -missed - moved
    usable = [problem.occupancy * max(0.0, 1 - load_s(n) / problem.horizon_s) for n in nodes]
    rates = [kind.rate_per_s for kind in kinds]
    rows = np.hstack([np.array(room), np.array(asked), np.array(floors)]).T
    solved = linprog(-np.array(gain), A_ub=rows, b_ub=[*usable, *rates, *[0.0] * len(kinds)])
    return -float(solved.fun) - missed - moved


def best_of_all(problem: Problem) -> float:
    """Return the best objective of every residency there is."""
    return max(best_flows(problem, nodes) for nodes in residencies(problem))


def by_second_model(problem: Problem, gap: float) -> tuple[float, float]:
    """Return objective and bound of a model written apart from the allocator's, for scipy's milp.

    Every class has flows of its own to each holding of each group, and all reachable holdings
    are there, not only the useful ones.
    """
    changes = [
        (g, before, after)
        for g, group in enumerate(problem.groups)
        for before in group.present
        for after in reachable(problem, group, before)
    ]
    holders = sorted({(g, tuple(sorted(after))) for g, _, after in changes})
    flows = [
        (c, level, h)
        for c, kind in enumerate(problem.classes)
        for level in problem.levels
        for h, (g, held) in enumerate(holders)
        if level.name in kind.quality
        and level.variant in held
        and level.name in problem.groups[g].seconds
    ]
    width = len(changes) + len(flows)
    cost = np.zeros(width)
    room = np.zeros((len(holders), width))
    counts: dict[tuple[int, Holding], np.ndarray] = {}
    for j, (g, before, after) in enumerate(changes):
        seconds = load_s((problem.groups[g], before, after))
        cost[j] = problem.move_loss * seconds / problem.horizon_s
        usable = problem.occupancy * max(0.0, 1 - seconds / problem.horizon_s)
        room[holders.index((g, tuple(sorted(after))))][j] -= usable
        counts.setdefault((g, before), np.zeros(width))[j] = 1.0
    asked = np.zeros((len(problem.classes), width))
    floors = np.zeros_like(asked)
    for j, (c, level, h) in enumerate(flows, start=len(changes)):
        kind = problem.classes[c]
        cost[j] = -kind.quality[level.name] - kind.unmet_loss
        room[h][j] = problem.groups[holders[h][0]].seconds[level.name]
        asked[c][j] = 1.0
        floors[c][j] = kind.floor - kind.quality[level.name]
    have = [problem.groups[g].present[before] for g, before in counts]
    solved = milp(
        cost,
        constraints=[
            LinearConstraint(room, ub=0.0),
            LinearConstraint(asked, ub=[kind.rate_per_s for kind in problem.classes]),
            LinearConstraint(floors, ub=0.0),
            LinearConstraint(np.array(list(counts.values())), lb=have, ub=have),
        ],
        bounds=Bounds(0.0, np.inf),
        integrality=np.arange(width) < len(changes),
        options={"mip_rel_gap": gap, "time_limit": 60.0},
    )
    missed = sum(kind.unmet_loss * kind.rate_per_s for kind in problem.classes)
    return -float(solved.fun) - missed, -float(solved.mip_dual_bound) - missed
