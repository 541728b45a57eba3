"""Which variants the nodes hold and which levels the prompts get: the best that is affordable.

Solved in steps, each tried only where the one before was not good enough: the optimum with nodes in
parts, which bounds all; the present residency, if it is within the gap of that bound; whole nodes
rounded from those parts, if they are; else branch and bound, and where its time is over rounding
that is mended node by node. What is returned is never worse than keeping the present residency.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from argus.control.allocation import (
    Allocation,
    GroupPlan,
    Holding,
    Move,
    Problem,
    PromptClass,
    Solved,
)
from argus.control.allocation_model import Floats, Flows, Numbers, Programs, Structure, sources

_MODELS = 8
"""Structures whose programs are kept: residency moves between few."""
_TINY = 1e-7
"""Shares and rates below are the solver's rounding."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    count: Floats
    flows: Flows
    objective: float


class Allocator:
    """Solves problems one after the other; those of equal structure only swap numbers.

    Args:
        gap: how far from the optimum, relative to it, is good enough.
        time_limit_s: for branch and bound. Answers do not depend on the machine's speed unless it
            is reached.
        mends: solutions that mending a rounded one may try.
    """

    def __init__(self, gap: float = 1e-3, time_limit_s: float = 2.0, mends: int = 60) -> None:
        self._gap = gap
        self._time_limit_s = time_limit_s
        self._mends = mends
        self._programs: OrderedDict[Structure, Programs] = OrderedDict()

    def solve(self, problem: Problem) -> Allocation:
        """Return the allocation that makes the most of the problem's nodes."""
        structure = Structure.of(problem)
        numbers = Numbers.of(problem, structure)
        if not structure.flows or not structure.classes:
            return _nothing(problem, structure, numbers)
        run = _Run(self._of(structure), structure, numbers)
        best, bound, solved = self._best(run)
        return _answer(problem, structure, best, bound, solved)

    def _of(self, structure: Structure) -> Programs:
        programs = self._programs.pop(structure, None) or Programs(structure)
        self._programs[structure] = programs
        while len(self._programs) > _MODELS:
            self._programs.popitem(last=False)
        return programs

    def _best(self, run: _Run) -> tuple[_Candidate, float, Solved]:
        parts, bound = run.programs.relaxed()
        slack = self._gap * abs(bound) + 1e-9
        kept = run.candidate(run.keeping())
        if kept.objective >= bound - slack:
            return kept, bound, Solved.KEPT
        rounded = run.candidate(run.rounded(parts))
        if rounded.objective >= bound - slack:
            return rounded, bound, Solved.ROUNDED
        # Half of the gap is for branch and bound, half for preferring what is there.
        whole, proven = run.programs.whole(self._gap / 2, self._time_limit_s)
        found = [rounded] if whole is None else [run.candidate(whole), rounded]
        if not proven:
            best = max(kept, run.mended(max(found, key=_objective), self._mends), key=_objective)
            return best, bound, Solved.FALLBACK
        best = max(found, key=_objective)
        if kept.objective >= best.objective - slack / 2:
            return kept, bound, Solved.OPTIMAL
        return best, bound, Solved.OPTIMAL


def _objective(candidate: _Candidate) -> float:
    return candidate.objective


class _Run:
    """One problem's candidates."""

    def __init__(self, programs: Programs, structure: Structure, numbers: Numbers) -> None:
        self.programs = programs
        programs.set(numbers)
        self._numbers = numbers
        rows = {source: r for r, source in enumerate(sources(structure))}
        moves = structure.changes
        self._row = np.array([rows[g, change.before] for g, change in moves])
        self._keeps = np.array([change.before == change.after for _, change in moves])

    def candidate(self, count: Floats) -> _Candidate:
        """Return the best flows with these changes."""
        flows = self.programs.given(count)
        return _Candidate(count, flows, flows.objective - float(self._numbers.cost @ count))

    def keeping(self) -> Floats:
        """Return the changes that keep every node as it is."""
        return np.where(self._keeps, self._numbers.nodes[self._row], 0.0)

    def rounded(self, parts: Floats) -> Floats:
        """Return whole changes near `parts`: in each row the largest remainders get one more."""
        count = np.floor(parts + 1e-6)
        for row, nodes in enumerate(self._numbers.nodes):
            members = np.flatnonzero(self._row == row)
            missing = int(nodes - count[members].sum())
            order = np.argsort(count[members] - parts[members], kind="stable")
            count[members[order[:missing]]] += 1.0
        return count

    def mended(self, start: _Candidate, tries: int) -> _Candidate:
        """Return the best found by changing another node's mind, over and over.

        Whole nodes lose what the relaxed optimum had in parts of one; moving single nodes brings
        back the holdings that rounding left without any.
        """
        best = start
        while True:
            found = best
            for count in self._neighbours(best.count):
                if not tries:
                    return max(found, best, key=_objective)
                tries -= 1
                found = max(found, self.candidate(count), key=_objective)
            if found.objective <= best.objective:
                return best
            best = found

    def _neighbours(self, count: Floats) -> list[Floats]:
        found = []
        for source in np.flatnonzero(count > 0):
            for target in np.flatnonzero(self._row == self._row[source]):
                if target != source:
                    other = count.copy()
                    other[source] -= 1.0
                    other[target] += 1.0
                    found.append(other)
        return found


def _answer(
    problem: Problem, structure: Structure, best: _Candidate, bound: float, solved: Solved
) -> Allocation:
    groups = tuple(_group_plan(problem, structure, best, g) for g in range(len(problem.groups)))
    shares = {
        kind.name: _shares(problem, kind, best.flows.made[c])
        if kind.rate_per_s > 0.0
        else _unasked(problem, kind, groups)
        for c, kind in enumerate(problem.classes)
    }
    return Allocation(shares, groups, best.objective, bound, solved)


def _shares(problem: Problem, kind: PromptClass, made: Floats) -> dict[str, float]:
    found = zip(problem.levels, (float(x) / kind.rate_per_s for x in made), strict=True)
    return {level.name: min(1.0, share) for level, share in found if share > _TINY}


def _unasked(
    problem: Problem, kind: PromptClass, groups: tuple[GroupPlan, ...]
) -> dict[str, float]:
    """Return what the first request of a class should get that nobody asked for lately."""
    values: dict[str, float] = {}
    for group, plan in zip(problem.groups, groups, strict=True):
        held = {
            variant for holding, nodes in plan.residency.items() if nodes for variant in holding
        }
        for level in problem.levels:
            able = level.variant in held and level.name in group.seconds
            if able and kind.quality.get(level.name, -np.inf) >= kind.floor:
                value = kind.quality[level.name] - plan.price * group.seconds[level.name]
                values[level.name] = max(value, values.get(level.name, -np.inf))
    return {max(values, key=values.__getitem__): 1.0} if values else {}


def _group_plan(problem: Problem, structure: Structure, best: _Candidate, g: int) -> GroupPlan:
    residency: dict[Holding, int] = {}
    moves = []
    for (owner, change), count in zip(structure.changes, best.count, strict=True):
        nodes = round(float(count))
        if owner == g and nodes:
            residency[change.after] = residency.get(change.after, 0) + nodes
            if change.before != change.after:
                moves.append(Move(change.before, change.after, nodes))
    rates: dict[str, float] = {}
    for (h, i), rate in zip(structure.flows, best.flows.by_holder, strict=True):
        if structure.holders[h][0] == g and rate > _TINY:
            name = problem.levels[i].name
            rates[name] = rates.get(name, 0.0) + float(rate)
    total = sum(residency.values())
    worth = sum(
        residency.get(holding, 0) * float(price)
        for (owner, holding), price in zip(structure.holders, best.flows.price, strict=True)
        if owner == g
    )
    name = problem.groups[g].name
    return GroupPlan(name, residency, tuple(moves), rates, worth / total if total else 0.0)


def _nothing(problem: Problem, structure: Structure, numbers: Numbers) -> Allocation:
    """Return the answer where there is nothing to choose: no node, no level or no prompt."""
    groups = tuple(
        GroupPlan(group.name, {h: n for h, n in group.present.items() if n}, (), {}, 0.0)
        for group in problem.groups
    )
    shares: dict[str, dict[str, float]] = {kind.name: {} for kind in problem.classes}
    objective = -float(numbers.demand @ numbers.unmet_loss) if structure.classes else 0.0
    return Allocation(shares, groups, objective, objective, Solved.KEPT)
