from __future__ import annotations

from dataclasses import replace

import allocator_problems
import numpy as np
import pytest

from argus.control.allocation import Solved
from argus.control.allocator import Allocator
from argus.control.grouping import PlannedNode, assign, kindred
from argus.control.planner import (
    ClassDemand,
    Plan,
    Planner,
    PlannerOptions,
    Reason,
    State,
    without_useless,
)
from argus.errors import InvalidArgumentError
from argus.types import Level

LEVELS = (
    Level("big", "big", 1.0, 1.0),
    Level("big-half", "big", 1.0, 0.9, 0.5),
    Level("small", "small", 1.0, 0.8),
)
SECONDS = {"big": 4.0, "big-half": 2.0, "small": 1.0}
QUALITY = {level.name: level.quality for level in LEVELS}
LOADS = {"big": 30.0, "small": 10.0}
BYTES = {"big": 3.0, "small": 1.0}
BIG = frozenset({"big"})
OPTIONS = PlannerOptions(occupancy=1.0)


def gpu(name: str, slowness: float = 1.0, **changes: object) -> PlannedNode:
    seconds = {level: s * slowness for level, s in SECONDS.items()}
    made = PlannedNode(name, BIG, seconds, 3.0, LOADS, "gpu")
    return replace(made, **changes)  # type: ignore[arg-type]


def prompts(rate_per_s: float, **changes: object) -> ClassDemand:
    return replace(ClassDemand("all", rate_per_s, QUALITY), **changes)  # type: ignore[arg-type]


def state(rate_per_s: float = 0.5, nodes: int = 4, **changes: object) -> State:
    made = State(LEVELS, tuple(gpu(f"n{i}") for i in range(nodes)), (prompts(rate_per_s),), BYTES)
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def planner() -> Planner:
    return Planner(OPTIONS)


def planned(planner: Planner, rate_per_s: float = 0.5, now_s: float = 100.0) -> Plan:
    return planner.plan(state(rate_per_s), now_s)


def test_a_calm_plan_keeps_everything_and_costs_nothing(planner: Planner) -> None:
    plan = planned(planner)
    assert plan.shares == {"all": {"big": pytest.approx(1.0)}}
    assert (plan.targets, plan.solved) == ({}, Solved.KEPT)
    assert plan.prices == dict.fromkeys(["n0", "n1", "n2", "n3"], 0.0)
    assert (plan.made_at_s, plan.valid_until_s) == (100.0, 110.0)


def test_a_busy_plan_names_the_nodes_that_load_the_smaller_model(planner: Planner) -> None:
    plan = planned(planner, 2.9)
    assert len(plan.targets) == 2
    assert set(plan.targets.values()) == {frozenset({"small"})}
    assert plan.targets.keys() < plan.members.keys()
    assert plan == planned(planner, 2.9)
    # Once they are there the same demand moves nothing more.
    nodes = tuple(gpu(f"n{i}", holds=plan.targets.get(f"n{i}", BIG)) for i in range(4))
    after = planner.plan(replace(state(2.9), nodes=nodes), 200.0)
    assert after.targets == {}


def test_what_waits_is_demand_too(planner: Planner) -> None:
    calm = planned(planner, 0.5)
    queue = replace(state(0.5), classes=(prompts(0.5, waiting=10.0),))
    plan = planner.plan(queue, 100.0)
    assert (calm.prices["n0"], plan.prices["n0"]) == (0.0, pytest.approx(0.05))
    assert plan.rate_per_s == pytest.approx(1.5)


def test_the_mix_of_a_plan_is_what_its_classes_get(planner: Planner) -> None:
    plan = planned(planner, 1.5)
    assert plan.mix(LEVELS, {"all": 1.5}) == pytest.approx((1 / 3, 2 / 3, 0.0))
    assert plan.mix(LEVELS, {"all": 0.0}) == (0.0, 0.0, 0.0)


def test_no_node_gives_a_plan_that_makes_nothing(planner: Planner) -> None:
    plan = planner.plan(state(nodes=0), 0.0)
    assert plan.allocation.unmet("all") == 1.0


def test_a_plan_is_made_anew_when_something_happened(planner: Planner) -> None:
    plan = planned(planner, 1.0)
    same = state(1.0)
    assert planner.due(None, same, 100.0) is Reason.FIRST
    assert planner.due(plan, same, 105.0) is None
    assert planner.due(plan, same, 110.0) is Reason.PERIOD
    assert planner.due(plan, state(1.0, nodes=3), 100.1) is Reason.MEMBERSHIP
    assert planner.due(plan, state(1.0, nodes=5), 100.1) is Reason.MEMBERSHIP
    loaded = replace(same, nodes=(gpu("n0", holds=frozenset({"small"})), *same.nodes[1:]))
    assert planner.due(plan, loaded, 100.1) is Reason.MEMBERSHIP
    assert planner.due(plan, replace(same, changed_at_s=103.0), 103.0) is Reason.JUMP
    assert planner.due(plan, state(1.2), 105.0) is None
    assert planner.due(plan, state(1.3), 105.0) is Reason.DEMAND
    assert planner.due(plan, state(0.7), 105.0) is Reason.DEMAND
    # Not so soon after the last one.
    assert planner.due(plan, state(5.0), 100.5) is None


def test_like_nodes_are_one_group_whatever_they_are_called(planner: Planner) -> None:
    nodes = [gpu(f"a{i}", 1.0 + 0.001 * i) for i in range(5)] + [gpu("slow", 3.0)]
    nodes += [gpu("other", kind="cpu"), gpu("poor", memory_bytes=1.0)]
    kin = kindred(reversed(nodes))
    assert sorted(sorted(sum(k.members.values(), ())) for k in kin) == [
        ["a0", "a1", "a2", "a3", "a4"],
        ["other"],
        ["poor"],
        ["slow"],
    ]
    alike = next(k.group for k in kin if k.group.nodes == 5)
    assert alike.seconds["big"] == pytest.approx(4.0 * 1.002)
    assert kindred(nodes) == kindred(reversed(nodes))


def test_moves_go_to_nodes_that_hold_what_they_start_from() -> None:
    nodes = [gpu(f"n{i}", holds=BIG if i % 2 else frozenset({"small"})) for i in range(6)]
    case = replace(state(2.9), nodes=tuple(nodes), classes=(prompts(6.0),))
    kin = kindred(nodes)
    plan = Planner(OPTIONS).plan(case, 0.0)
    changed = assign(kin[0], plan.allocation.groups[0])
    assert changed == plan.targets
    for move in plan.allocation.groups[0].moves:
        went = [n for n in nodes if n.holds == move.before and changed.get(n.name) == move.after]
        assert len(went) == move.nodes


@pytest.mark.parametrize("load", [0.7, 1.4, 2.2])
def test_dropping_useless_levels_changes_no_optimum(load: float) -> None:
    case = allocator_problems.problem(12, 3, load, np.random.default_rng(1))
    pruned = without_useless(case)
    sizes = [sum(len(kind.quality) for kind in x.classes) for x in (case, pruned)]
    assert sizes[1] < 0.7 * sizes[0]
    every, fewer = (Allocator(gap=1e-4, time_limit_s=60.0).solve(x) for x in (case, pruned))
    assert fewer.bound == pytest.approx(every.bound, rel=1e-6)
    assert fewer.objective == pytest.approx(every.objective, rel=2e-4)


@pytest.mark.parametrize("name", ["period_s", "drain_s", "moved_by", "tolerance", "shortest_s"])
def test_bad_options_are_named(name: str) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        PlannerOptions(**{name: -1.0})
    assert raised.value.field == name
