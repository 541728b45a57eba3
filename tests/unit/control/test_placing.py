"""Who serves which variant, and the orders that bring a plan about, one after the other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from argus.control.backlog import NodeBacklog
from argus.control.fleet import Fleet
from argus.control.placing import MoveOrder, Placer, PlacingOptions
from argus.control.planner import Plan, Planner
from argus.control.wants import FIRST_S, Wants
from tests.unit.control.build import COSTS, SMALL_COSTS, node, row
from tests.unit.control.deciding import LADDER

BOTH = {"base": COSTS, "small": SMALL_COSTS}


def crowded(name: str, pinned: tuple[str, ...] = ()) -> NodeBacklog:
    """A node that has two variants and room for one."""
    info = node(name, slots=1, max_lanes=2, costs=BOTH).info
    return NodeBacklog(
        replace(info, weights_budget=1, weights_bytes=(1, 1), load_s=(4.0, 2.0), pinned=pinned)
    )


def placer_of(held: dict[str, str], **options: float) -> Placer:
    fleet = Fleet()
    placer = Placer(fleet, True, PlacingOptions(**options))
    for name, variant in held.items():
        fleet.add(crowded(name), 1)
        placer.seen(name, {variant})
    assert placer.orders(0.0) == []
    return placer


def serving(placer: Placer) -> dict[str, set[str]]:
    return {node.info.name: set(node.serving) for node in placer.fleet}


def aim(placer: Placer, targets: dict[str, str], times: int = 2) -> None:
    """Let so many plans in a row want the same."""
    state_plan = _plan(placer)
    wanted = {name: frozenset({variant}) for name, variant in targets.items()}
    for _ in range(times):
        placer.aim(replace(state_plan, targets=wanted))


def _plan(placer: Placer) -> Plan:
    for i in range(100):
        placer.note(LADDER, 0.2 * i)
    state = placer.state(FIRST_S + 1.0)
    assert state is not None
    return Planner().plan(state, 0.0)


HELD = {"a": "base", "b": "base", "c": "base", "d": "small"}


def test_nodes_serve_what_they_hold() -> None:
    placer = placer_of(HELD)
    assert serving(placer) == {name: {variant} for name, variant in HELD.items()}


def test_what_nobody_holds_is_served_by_one_that_could_load_it() -> None:
    placer = placer_of({"a": "base", "b": "base"})
    assert serving(placer) == {"a": {"base", "small"}, "b": {"base"}}


def test_a_node_with_nothing_on_its_device_takes_what_comes() -> None:
    placer = placer_of({"a": "base", "b": "small"})
    placer.seen("a", ())
    assert placer.orders(0.0) == []
    assert serving(placer) == {"a": {"base", "small"}, "b": {"small"}}


def test_a_node_is_moved_when_its_rows_are_done_and_two_plans_agree() -> None:
    placer = placer_of(HELD)
    placer.fleet["a"].add("r", row(50))
    aim(placer, {"a": "small"}, times=1)
    assert placer.orders(1.0) == []
    assert serving(placer)["a"] == {"base"}
    aim(placer, {"a": "small"}, times=1)
    assert placer.orders(2.0) == []
    assert serving(placer)["a"] == set(), "no more rows are sent to it"
    placer.fleet["a"].remove("r")
    assert placer.orders(3.0) == [MoveOrder("a", "small", ("base",))]
    assert placer.orders(4.0) == [], "while it moves nothing is ordered again"
    placer.ended("a", {"small"}, False, 5.0)
    assert serving(placer)["a"] == {"small"}


def test_only_some_move_at_once() -> None:
    placer = placer_of(HELD, moving_share=0.25)
    aim(placer, {"a": "small", "b": "small"})
    assert [order.node for order in placer.orders(1.0)] == ["a"]
    placer.ended("a", {"small"}, False, 2.0)
    assert [order.node for order in placer.orders(3.0)] == ["b"]


def test_the_last_one_that_holds_a_variant_keeps_it() -> None:
    placer = placer_of({"a": "base", "b": "small"})
    aim(placer, {"a": "small"})
    assert placer.orders(1.0) == []
    assert serving(placer) == {"a": {"base"}, "b": {"small"}}


def test_a_node_that_was_moved_stays_so_for_a_while() -> None:
    placer = placer_of(HELD, stay_s=20.0)
    aim(placer, {"a": "small"})
    placer.orders(1.0)
    placer.ended("a", {"small"}, False, 5.0)
    aim(placer, {"a": "base"})
    assert placer.orders(24.0) == []
    assert [order.load for order in placer.orders(25.0)] == ["base"]


def test_after_a_refusal_the_node_goes_on_and_is_asked_again_later() -> None:
    placer = placer_of(HELD, again_s=10.0)
    aim(placer, {"a": "small"})
    placer.orders(1.0)
    placer.ended("a", {"base"}, True, 2.0)
    assert serving(placer)["a"] == {"base"}
    assert placer.moves == 0
    assert placer.orders(11.0) == []
    assert [order.node for order in placer.orders(12.0)] == ["a"]


def test_what_operators_unloaded_is_served_nowhere_until_they_load_it() -> None:
    placer = placer_of({"a": "base", "b": "small"})
    placer.unload("a", "base")
    assert serving(placer) == {"a": set(), "b": {"base", "small"}}
    placer.unload("b", "base")
    assert serving(placer) == {"a": set(), "b": {"small"}}
    placer.joined("a")
    placer.seen("a", {"base"})
    assert placer.orders(1.0) == []
    assert serving(placer)["a"] == set(), "also after it has joined anew"
    placer.allow("a", "base")
    assert serving(placer)["a"] == {"base"}


def test_a_pinned_variant_is_part_of_every_aim() -> None:
    fleet = Fleet()
    placer = Placer(fleet)
    for name in "ab":
        fleet.add(crowded(name, pinned=("base",)), 1)
        placer.seen(name, {"base"})
    placer.orders(0.0)
    aim(placer, {"a": "small"})
    assert placer.orders(1.0) == []


def test_where_all_fit_there_is_nothing_to_plan() -> None:
    fleet = Fleet()
    placer = Placer(fleet)
    fleet.add(node("a", costs=BOTH), 1)
    placer.note(LADDER, 0.0)
    assert placer.state(100.0) is None
    assert placer.orders(100.0) == []
    assert serving(placer) == {"a": {"base", "small"}}


def test_without_plans_only_operators_change_what_is_served() -> None:
    fleet = Fleet()
    placer = Placer(fleet, plans=False)
    fleet.add(crowded("a"), 1)
    placer.seen("a", {"base"})
    placer.unload("a", "small")
    assert placer.orders(1.0) == []
    assert serving(placer) == {"a": {"base"}}
    placer.allow("a", "small")
    assert serving(placer) == {"a": {"base", "small"}}


def test_demand_that_falls_is_planned_for_a_while_longer() -> None:
    wants = Wants(60.0, 120.0)
    now_s = 0.0
    for _ in range(400):
        now_s += 0.25
        wants.note(LADDER, now_s)
    busy = sum(kind.rate_per_s for kind in wants.classes(now_s))
    for _ in range(30):
        now_s += 4.0
        wants.note(LADDER, now_s)
    calm = sum(kind.rate_per_s for kind in wants.classes(now_s))
    assert busy == pytest.approx(4.0, rel=0.1)
    assert 0.25 < calm < busy
    assert calm == pytest.approx(busy / 2.718, rel=0.2)


def test_classes_are_parts_of_those_who_ask_by_what_they_lose() -> None:
    wants = Wants(60.0, 120.0)
    for i in range(400):
        poor = 0.2 if i % 4 == 0 else 0.9
        offers = [replace(LADDER[0]), replace(LADDER[-1], quality=poor)]
        wants.note(offers, 0.1 * i)
    means = sorted(kind.quality[LADDER[-1].level.name] for kind in wants.classes(40.0))
    assert means == pytest.approx([0.2, 0.9, 0.9, 0.9])
