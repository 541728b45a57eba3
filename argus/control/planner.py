"""From what is known of demand, nodes and levels to a plan, and when to make the next one.

Pure: time comes in as an argument, and a plan depends on nothing but what is passed in. The caller
carries it out: it moves residency in the background, prices levels, and asks again when it is due.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from argus.control.allocation import Allocation, Holding, Problem, PromptClass, Solved
from argus.control.allocator import Allocator
from argus.control.dominance import concave_hull
from argus.control.grouping import Kin, PlannedNode, assign, kindred
from argus.errors import InvalidArgumentError
from argus.types import Level


@dataclass(frozen=True, slots=True)
class PlannerOptions:
    """What a plan aims at and how often it is made.

    Attributes:
        period_s: a plan is made anew after this at the latest.
        shortest_s: and not sooner than this after the last, whatever changed.
        occupancy: share ρ of the device seconds that is planned for.
        drain_s: work that waits is to be done within this time, on top of new demand.
        horizon_s: for how long loading a variant is expected to be of use.
        move_loss: quality given up for each second of loading.
        moved_by: share by which demand must leave what was planned for to make a new plan.
        tolerance: nodes whose costs differ by less are planned for as equals.
    """

    period_s: float = 10.0
    shortest_s: float = 1.0
    occupancy: float = 0.9
    drain_s: float = 10.0
    horizon_s: float = 300.0
    move_loss: float = 0.01
    moved_by: float = 0.25
    tolerance: float = 0.1

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InvalidArgumentError: names the field.
        """
        for name, value in (
            ("period_s", self.period_s),
            ("drain_s", self.drain_s),
            ("moved_by", self.moved_by),
            ("tolerance", self.tolerance),
        ):
            if not value > 0.0:
                raise InvalidArgumentError(name, f"must be above 0, not {value}")
        if not 0.0 <= self.shortest_s <= self.period_s:
            raise InvalidArgumentError("shortest_s", "must be between 0 and period_s")


@dataclass(frozen=True, slots=True)
class ClassDemand:
    """What one class of prompts is expected to ask for.

    Attributes:
        name: of the class.
        rate_per_s: forecast of new requests.
        waiting: requests that have come and not been started.
        quality: expected relative quality, by level that is open to it and worth offering now.
        floor: least mean quality.
        unmet_loss: what it costs not to make a picture, beyond its quality.
    """

    name: str
    rate_per_s: float
    quality: Mapping[str, float]
    waiting: float = 0.0
    floor: float = 0.0
    unmet_loss: float = 0.0


@dataclass(frozen=True, slots=True)
class State:
    """All that a plan depends on.

    Attributes:
        levels: every level there is, by falling quality.
        nodes: that take work.
        classes: what is asked for.
        weights_bytes: by variant.
        changed_at_s: when the demand last jumped, on the planner's clock.
    """

    levels: tuple[Level, ...]
    nodes: tuple[PlannedNode, ...]
    classes: tuple[ClassDemand, ...]
    weights_bytes: Mapping[str, float]
    changed_at_s: float = -math.inf


class Reason(enum.Enum):
    """Why a plan is to be made."""

    FIRST = "first"
    PERIOD = "period"
    MEMBERSHIP = "membership"
    """A node joined, was lost, or holds other variants than it did."""
    JUMP = "jump"
    """The forecast noticed a jump."""
    DEMAND = "demand"
    """Demand left what was planned for."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What was decided, and what it was decided upon.

    Attributes:
        made_at_s, valid_until_s: on the planner's clock.
        reason: why it was made.
        shares: by class, the share of its requests that each level gets.
        targets: what each node is to hold; nodes that stay as they are left out.
        prices: worth of a device second in units of quality, by node.
        allocation: the solution it came from, with its objective and bound.
        rate_per_s: of all classes, that it was made for.
        members: nodes and what they held.
    """

    made_at_s: float
    valid_until_s: float
    reason: Reason
    shares: Mapping[str, Mapping[str, float]]
    targets: Mapping[str, Holding]
    prices: Mapping[str, float]
    allocation: Allocation
    rate_per_s: float
    members: Mapping[str, Holding]

    @property
    def solved(self) -> Solved:
        """How it was solved."""
        return self.allocation.solved

    def mix(self, levels: Sequence[Level], rates_per_s: Mapping[str, float]) -> tuple[float, ...]:
        """Return the share of each level in what is made of classes that come at these rates."""
        made = [
            math.fsum(
                rate * self.shares[name].get(level.name, 0.0) for name, rate in rates_per_s.items()
            )
            for level in levels
        ]
        total = math.fsum(made)
        return tuple(x / total for x in made) if total else tuple(0.0 for _ in made)


class Planner:
    """Makes plans; the solver's programs are kept from one to the next."""

    def __init__(
        self, options: PlannerOptions | None = None, allocator: Allocator | None = None
    ) -> None:
        self.options = options or PlannerOptions()
        self._allocator = allocator or Allocator()

    def due(self, plan: Plan | None, state: State, now_s: float) -> Reason | None:
        """Return why a plan is to be made now, or None while `plan` is good."""
        if plan is None:
            return Reason.FIRST
        if plan.members != _members(state):
            return Reason.MEMBERSHIP
        if now_s >= plan.valid_until_s:
            return Reason.PERIOD
        if now_s < plan.made_at_s + self.options.shortest_s:
            return None
        if state.changed_at_s > plan.made_at_s:
            return Reason.JUMP
        rate = _rate(state, self.options)
        if abs(rate - plan.rate_per_s) > self.options.moved_by * plan.rate_per_s:
            return Reason.DEMAND
        return None

    def plan(self, state: State, now_s: float, reason: Reason = Reason.PERIOD) -> Plan:
        """Return the plan for a state."""
        options = self.options
        kin = kindred(state.nodes, options.tolerance)
        problem = Problem(
            levels=state.levels,
            groups=tuple(each.group for each in kin),
            classes=tuple(_class(kind, options) for kind in state.classes),
            weights_bytes=state.weights_bytes,
            occupancy=options.occupancy,
            horizon_s=options.horizon_s,
            move_loss=options.move_loss,
        )
        found = self._allocator.solve(without_useless(problem))
        targets: dict[str, Holding] = {}
        prices: dict[str, float] = {}
        for each, group in zip(kin, found.groups, strict=True):
            targets |= assign(each, group)
            prices |= dict.fromkeys(_names(each), group.price)
        return Plan(
            made_at_s=now_s,
            valid_until_s=now_s + options.period_s,
            reason=reason,
            shares=found.shares,
            targets=targets,
            prices=prices,
            allocation=found,
            rate_per_s=_rate(state, options),
            members=_members(state),
        )


def without_useless(problem: Problem) -> Problem:
    """Return a problem without levels that no optimum needs; its optimum is the same.

    A class needs no level that on every group of nodes is under the concave hull of its own levels
    of the same variant: there a mix of two others, which want nothing that is not resident
    anyhow, is as good and costs no more. Other variants' levels are left to the optimiser, since
    whether they can take the place depends on residency.
    """
    return replace(problem, classes=tuple(_pruned(kind, problem) for kind in problem.classes))


def _pruned(kind: PromptClass, problem: Problem) -> PromptClass:
    needed: set[str] = set()
    for group in problem.groups:
        for variant in {level.variant for level in problem.levels}:
            own = [
                level.name
                for level in problem.levels
                if level.variant == variant
                and level.name in kind.quality
                and level.name in group.seconds
            ]
            hull = concave_hull([(group.seconds[name], kind.quality[name]) for name in own])
            needed.update(own[i] for i in hull)
    kept = {name: quality for name, quality in kind.quality.items() if name in needed}
    return replace(kind, quality=kept)


def _class(kind: ClassDemand, options: PlannerOptions) -> PromptClass:
    rate = kind.rate_per_s + kind.waiting / options.drain_s
    return PromptClass(kind.name, rate, kind.quality, kind.floor, kind.unmet_loss)


def _rate(state: State, options: PlannerOptions) -> float:
    return math.fsum(_class(kind, options).rate_per_s for kind in state.classes)


def _members(state: State) -> dict[str, Holding]:
    return {node.name: node.holds for node in state.nodes}


def _names(kin: Kin) -> list[str]:
    return [name for names in kin.members.values() for name in names]
