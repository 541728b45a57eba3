"""What the fleet keeps of its nodes against the nodes themselves."""

from __future__ import annotations

import math
import random

import pytest

from argus.control.backlog import NodeBacklog
from argus.control.fleet import Fleet
from tests.unit.control.build import SMALL_COSTS, node, row
from tests.unit.control.deciding import BOTH

KINDS = ({"base": BOTH["base"]}, {"small": SMALL_COSTS})


def check(fleet: Fleet, nodes: dict[str, NodeBacklog], limits: dict[str, int]) -> None:
    """Compare everything with what the nodes say when they are asked one by one."""
    groups = fleet.refresh(0.0)
    taking = [n for n in nodes.values() if not n.draining]
    assert sum(group.taking for group in groups) == len(taking)
    has_room = [
        name for name, n in nodes.items() if not n.draining and not n.full and len(n) < limits[name]
    ]
    assert sum(group.open for group in groups) == len(has_room)
    assert sorted(n.info.name for n in fleet.with_room()) == sorted(has_room)
    work_s = sum(group.work_s(0.0) for group in groups)
    assert work_s == pytest.approx(sum(n.work_s() for n in taking))
    for group in groups:
        own = [n for n in group.nodes if n.info.name in has_room]
        first = next(iter(group.candidates(0.0, None, (), {})), None)
        assert (first is None) == (not any(not n.draining for n in group.nodes))
        if own:
            assert first is not None
            assert first[0].work_s() == min(n.work_s() for n in own)
    for variant in ("base", "small"):
        shape = row(20, variant=variant)
        able = [n for n in taking if n.holds(variant)]
        costs = fleet.costs(shape)
        assert (costs is None) == (not able)
        if costs is not None:
            assert costs.idle_s == pytest.approx(min(n.idle_s(shape) for n in able), rel=0.03)
            rate = sum(1 / n.device_s(shape) for n in able)
            assert costs.work_s == pytest.approx(len(able) / rate, rel=0.03)


@pytest.mark.parametrize("seed", range(8))
def test_what_is_known_of_the_nodes_never_drifts(seed: int) -> None:
    rng = random.Random(seed)
    fleet, nodes, limits = Fleet(), {}, {}
    for step in range(250):
        deed = rng.randrange(8)
        name = rng.choice(sorted(nodes)) if nodes else ""
        if deed == 0 and len(nodes) < 8:
            name = f"n{step}"
            kind = rng.randrange(2)
            nodes[name] = node(name, slots=rng.choice([1, 4]), costs=KINDS[kind])
            limits[name] = rng.randint(1, 6)
            fleet.add(nodes[name], limits[name])
        elif deed == 1 and rng.random() < 0.3:
            fleet.remove(name)
            nodes.pop(name, None)
            fleet.remove("nobody")
        elif nodes and deed == 2 and rng.random() < 0.2:
            nodes[name].draining = True
        elif nodes and deed == 3:
            nodes[name].full = rng.random() < 0.5
        elif nodes and deed == 4:
            nodes[name].slowness = rng.uniform(0.5, 2.0)
        elif nodes and deed == 5 and len(nodes[name]):
            nodes[name].remove(rng.choice(nodes[name].row_ids))
        elif nodes and len(nodes[name]) < limits[name]:
            variant = "base" if nodes[name].holds("base") else "small"
            nodes[name].add(f"r{step}", row(rng.choice([10, 50]), variant=variant))
        check(fleet, nodes, limits)


def test_work_falls_by_a_second_a_second_without_anything_being_written() -> None:
    fleet, busy, idle = Fleet(), node("a", slots=1), node("b", slots=1)
    for each in (busy, idle):
        fleet.add(each, 2)
    busy.add("r", row(50))
    (group,) = fleet.refresh(10.0)
    all_s = busy.work_s()
    assert group.work_s(10.0) == pytest.approx(all_s)
    assert group.work_s(11.5) == pytest.approx(all_s - 1.5)
    assert group.work_s(1000.0) == 0.0
    assert [n.info.name for n, _, _ in group.candidates(11.5, None, (), {})] == ["b"]
    held = {"b": 100.0}
    assert [n.info.name for n, _, _ in group.candidates(11.5, None, (), held)] == ["a", "b"]
    assert [n.info.name for n, _, _ in group.candidates(11.5, frozenset("a"), (), {})] == ["a"]
    assert list(group.candidates(11.5, frozenset("a"), {"a"}, {})) == []
    assert math.isfinite(all_s)


@pytest.mark.parametrize("count", [3, 8, 60])
def test_work_of_few_and_of_many_nodes_is_the_sum_of_theirs(count: int) -> None:
    fleet, rng = Fleet(), random.Random(count)
    nodes = [node(f"n{i:02}", slots=1) for i in range(count)]
    for each in nodes:
        fleet.add(each, 2)
        if rng.random() < 0.7:
            each.add("r", row(rng.choice([10, 50])))
    (group,) = fleet.refresh(0.0)
    for now_s in (0.0, 1.0, 3.0):
        left_s = math.fsum(max(0.0, each.work_s() - now_s) for each in nodes)
        assert group.work_s(now_s) == pytest.approx(left_s)
