"""The allocator's programs in cvxpy: built once for a structure, then solved for many numbers.

With flows `x` of classes c to levels l, `f` of levels to holdings p of groups g, `n` changes of
nodes and `u` requests that are not made, all a second:

    maximise   Σ q(c,l)·x(c,l) − Σ loss(c)·u(c) − Σ cost(change)·n(change)
    subject to Σ_l x(c,l) + u(c) = demand(c)          every request is made or missed
               x(c,l) ≤ open(c,l)                     demand(c), or 0 where the level is not open
               Σ_l (q(c,l) − floor(c))·x(c,l) ≥ 0     the class's mean quality
               Σ_c x(c,l) = Σ_{g,p} f(g,p,l)          what is asked for is made somewhere
               Σ_l seconds(g,l)·f(g,p,l) ≤ Σ_changes to p of ρ·(1 − load/horizon)·n(change)
               Σ_changes from b of n(change) = nodes of g that hold b;   n whole

Nodes count only by group and holding, so its size does not grow with the cluster.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sparse
from numpy.typing import NDArray

from argus.control.allocation import Holding, Problem
from argus.control.residency import Change, changes

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Structure:
    """What of a problem decides which variables and rows there are; equal ones share a model.

    Attributes:
        classes, levels: how many.
        changes: (group, change) by variable of `n`.
        holders: (group, holding) by row of capacity.
        flows: (holder, level) by variable of `f`, as indices.
    """

    classes: int
    levels: int
    changes: tuple[tuple[int, Change], ...]
    holders: tuple[tuple[int, Holding], ...]
    flows: tuple[tuple[int, int], ...]

    @staticmethod
    def of(problem: Problem) -> Structure:
        """Return a problem's structure."""
        moves = []
        for g, group in enumerate(problem.groups):
            useful = {x.variant for x in problem.levels if x.name in group.seconds}
            moves += [(g, change) for change in changes(group, useful, problem.weights_bytes)]
        holders = tuple(dict.fromkeys((g, change.after) for g, change in moves))
        flows = tuple(
            (h, i)
            for h, (g, holding) in enumerate(holders)
            for i, level in enumerate(problem.levels)
            if level.variant in holding and level.name in problem.groups[g].seconds
        )
        return Structure(len(problem.classes), len(problem.levels), tuple(moves), holders, flows)


@dataclass(frozen=True, slots=True)
class Numbers:
    """The numbers of a problem, in the order of its structure.

    Attributes:
        demand, unmet_loss: by class.
        quality, above_floor, open: by class and level.
        seconds: by flow.
        nodes: by row of changes (group and what is held before).
        usable, cost: by change, of one node: device seconds a second; quality a second.
    """

    demand: Floats
    unmet_loss: Floats
    quality: Floats
    above_floor: Floats
    open: Floats
    seconds: Floats
    nodes: Floats
    usable: Floats
    cost: Floats

    @staticmethod
    def of(problem: Problem, structure: Structure) -> Numbers:
        """Return a problem's numbers."""
        classes, levels, groups = problem.classes, problem.levels, problem.groups
        asked = [[level.name in kind.quality for level in levels] for kind in classes]
        quality = [[kind.quality.get(level.name, 0.0) for level in levels] for kind in classes]
        floor = np.array([kind.floor for kind in classes], dtype=float)[:, None]
        demand = np.array([kind.rate_per_s for kind in classes], dtype=float)
        open_ = np.array(asked, dtype=float).reshape(len(classes), len(levels))
        table = np.array(quality, dtype=float).reshape(open_.shape)
        loads = np.array([change.load_s(groups[g]) for g, change in structure.changes])
        return Numbers(
            demand=demand,
            unmet_loss=np.array([kind.unmet_loss for kind in classes], dtype=float),
            quality=table,
            above_floor=(table - floor) * open_,
            open=open_ * demand[:, None],
            seconds=np.array(
                [
                    groups[structure.holders[h][0]].seconds[levels[i].name]
                    for h, i in structure.flows
                ]
            ),
            nodes=np.array(
                [groups[g].present[before] for g, before in sources(structure)], dtype=float
            ),
            usable=problem.occupancy * np.maximum(0.0, 1.0 - loads / problem.horizon_s),
            cost=problem.move_loss * loads / problem.horizon_s,
        )


def sources(structure: Structure) -> tuple[tuple[int, Holding], ...]:
    """Return (group, what is held before), a row of changes each."""
    return tuple(dict.fromkeys((g, change.before) for g, change in structure.changes))


def _ones(rows: Sequence[int], count: int) -> sparse.csr_array:
    """Return the matrix that adds up entries by row: entry i counts in row `rows[i]`."""
    shape = (count, len(rows))
    return sparse.csr_array((np.ones(len(rows)), (list(rows), range(len(rows)))), shape=shape)


@dataclass(frozen=True, slots=True)
class Flows:
    """A solution with residency given.

    Attributes:
        made: pictures a second by class and level.
        by_holder: the same by flow.
        price: worth of a device second by holder.
        objective: without the cost of changes.
    """

    made: Floats
    by_holder: Floats
    price: Floats
    objective: float


class Programs:
    """One structure's programs: changes relaxed, whole, and given."""

    def __init__(self, structure: Structure) -> None:
        import cvxpy as cp

        # Annotated as Any: cvxpy's types do not know which problems were solved.
        self._cp: Any = cp
        self._structure = structure
        self._to_source = _ones(
            [sources(structure).index((g, x.before)) for g, x in structure.changes],
            len(sources(structure)),
        )
        self._to_holder = _ones(
            [structure.holders.index((g, x.after)) for g, x in structure.changes],
            len(structure.holders),
        )
        shape = (structure.classes, structure.levels)
        self._params: dict[str, Any] = {
            "demand": cp.Parameter(shape[0], nonneg=True),
            "unmet_loss": cp.Parameter(shape[0]),
            "quality": cp.Parameter(shape),
            "above_floor": cp.Parameter(shape),
            "open": cp.Parameter(shape, nonneg=True),
            "seconds": cp.Parameter(len(structure.flows), nonneg=True),
            "nodes": cp.Parameter(len(sources(structure)), nonneg=True),
            "usable": cp.Parameter(len(structure.changes), nonneg=True),
            "cost": cp.Parameter(len(structure.changes)),
        }
        self._room: Any = cp.Parameter(len(structure.holders), nonneg=True)
        self._made: Any = cp.Variable(shape, nonneg=True)
        self._by_holder: Any = cp.Variable(len(structure.flows), nonneg=True)
        self._unmet: Any = cp.Variable(shape[0], nonneg=True)
        self._whole: tuple[Any, Any] | None = None
        self._relaxed = self._with_changes(integer=False)
        rows = self._rows(self._room)
        self._given: Any = cp.Problem(cp.Maximize(self._worth()), rows)
        self._capacity = rows[0]

    def set(self, numbers: Numbers) -> None:
        """Take the numbers that the next solutions are for."""
        for name, parameter in self._params.items():
            parameter.value = getattr(numbers, name)

    def relaxed(self) -> tuple[Floats, float]:
        """Return the best changes with nodes in parts, and the objective, which bounds all."""
        problem, count = self._relaxed
        problem.solve(solver=self._cp.HIGHS, warm_start=False)
        return np.maximum(count.value, 0.0), float(problem.value)

    def whole(self, gap: float, time_limit_s: float) -> tuple[Floats | None, bool]:
        """Return the best changes found by branch and bound, and whether they are proven.

        Args:
            gap: relative; proven means that no solution is better by more.
            time_limit_s: it ends then with what it has, which may be nothing.
        """
        if self._whole is None:
            self._whole = self._with_changes(integer=True)
        problem, count = self._whole
        options = {"mip_rel_gap": gap, "time_limit": time_limit_s}
        with warnings.catch_warnings():
            # That the time was over is told by the status.
            warnings.filterwarnings("ignore", "Solution may be inaccurate", UserWarning)
            try:
                problem.solve(solver=self._cp.HIGHS, warm_start=False, **options)
            except self._cp.SolverError:
                return None, False
        if count.value is None:
            return None, False
        found = np.rint(count.value)
        is_full = np.array_equal(self._to_source @ found, self._params["nodes"].value)
        if not is_full or found.min(initial=0.0) < 0:
            return None, False
        return found, problem.status == self._cp.OPTIMAL

    def given(self, count: Floats) -> Flows:
        """Return the best flows when the changes are `count`."""
        numbers = self._params
        self._room.value = self._to_holder @ (numbers["usable"].value * count)
        self._given.solve(solver=self._cp.HIGHS, warm_start=False)
        return Flows(
            made=np.maximum(self._made.value, 0.0),
            by_holder=np.maximum(self._by_holder.value, 0.0),
            price=np.maximum(self._capacity.dual_value, 0.0),
            objective=float(self._given.value),
        )

    def _with_changes(self, integer: bool) -> tuple[Any, Any]:
        cp = self._cp
        count = cp.Variable(len(self._structure.changes), nonneg=True, integer=integer)
        room = self._to_holder @ cp.multiply(self._params["usable"], count)
        rows = [*self._rows(room), self._to_source @ count == self._params["nodes"]]
        return cp.Problem(cp.Maximize(self._worth() - self._params["cost"] @ count), rows), count

    def _worth(self) -> Any:
        cp = self._cp
        made = cp.sum(cp.multiply(self._params["quality"], self._made))
        return made - self._params["unmet_loss"] @ self._unmet

    def _rows(self, room: Any) -> list[Any]:
        cp, flows = self._cp, self._structure.flows
        holders = _ones([h for h, _ in flows], len(self._structure.holders))
        levels = _ones([i for _, i in flows], self._structure.levels)
        floor = cp.sum(cp.multiply(self._params["above_floor"], self._made), axis=1)
        return [
            holders @ cp.multiply(self._params["seconds"], self._by_holder) <= room,
            cp.sum(self._made, axis=1) + self._unmet == self._params["demand"],
            self._made <= self._params["open"],
            floor >= 0,
            cp.sum(self._made, axis=0) == levels @ self._by_holder,
        ]
