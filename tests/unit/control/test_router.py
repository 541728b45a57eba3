from __future__ import annotations

import itertools
import math
import random

import pytest

from argus.control.backlog import NodeBacklog, RowShape
from argus.control.offers import Offer
from argus.control.router import earliest, fastest, idle_finish_s, route, takers
from argus.types import Level
from tests.unit.control.build import COSTS, SMALL_COSTS, node, row

BOTH = {"base": COSTS, "small": SMALL_COSTS}


def offer(name: str, quality: float, steps: int = 50, variant: str = "base") -> Offer:
    level = Level(name, variant, steps / 50, quality)
    return Offer(level, row(steps, variant=variant), 5.0, "ddim", quality, steps, 50)


LADDER = (
    offer("base-50", 1.0),
    offer("base-25", 0.97, 25),
    offer("base-10", 0.9, 10),
    offer("small-50", 0.8, 50, "small"),
)


def test_an_idle_cluster_serves_the_reference() -> None:
    decision = route(LADDER, [node(costs=BOTH)], 10.0)
    assert decision is not None
    assert (decision.offer.level.name, decision.predicted_quality) == ("base-50", 1.0)
    assert decision.predicted_finish_s == pytest.approx(0.05 + 50 * 0.12 + 0.2)


def test_a_tight_deadline_degrades_to_the_best_level_that_is_on_time() -> None:
    for remaining_s, name in [(6.3, "base-50"), (4.0, "base-25"), (2.5, "small-50")]:
        decision = route(LADDER[:2] + LADDER[3:], [node(costs=BOTH)], remaining_s)
        assert decision is not None
        assert decision.offer.level.name == name
    assert route(LADDER, [node(costs=BOTH)], 1.0) is None


def test_without_a_deadline_the_reference_is_kept_whatever_the_load() -> None:
    busy = node(costs=BOTH)
    for i in range(200):
        busy.add(str(i), row(50))
    decision = route(LADDER, [busy], None, price=100.0, queue_s=1000.0)
    assert decision is not None
    assert decision.offer is LADDER[0]


def test_the_node_that_finishes_first_is_chosen_and_equals_go_by_name() -> None:
    busy, idle, other = node("a"), node("b"), node("c")
    busy.add("x", row(50))
    decision = route(LADDER, [other, busy, idle], None)
    assert decision is not None
    assert decision.node == "b"


def test_draining_nodes_and_nodes_without_the_variant_are_left_out() -> None:
    draining, wrong, right = node("a"), node("b", costs={"small": SMALL_COSTS}), node("c")
    draining.draining = True
    assert takers(LADDER[0], [draining, wrong, right]) == [right]
    assert earliest(LADDER[0], [draining, wrong]) is None
    assert route(LADDER[:1], [draining, wrong], None) is None
    assert route(LADDER[:1], [draining, wrong], 100.0) is None
    assert route((), [right], None) is None
    assert idle_finish_s(LADDER[:1], [draining, wrong]) is None


def test_a_price_trades_quality_for_device_seconds() -> None:
    cheap = route(LADDER, [node(costs=BOTH)], 100.0, price=0.1)
    free = route(LADDER, [node(costs=BOTH)], 100.0, price=0.0)
    assert cheap is not None
    assert free is not None
    assert (cheap.offer.level.name, free.offer.level.name) == ("base-10", "base-50")


def test_lower_levels_cost_nothing_when_a_better_one_is_on_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    finish_s = NodeBacklog.finish_s

    def counted(self: NodeBacklog, shape: RowShape, due_s: float = math.inf) -> float:
        asked.append(f"{shape.variant}-{shape.forwards}")
        return finish_s(self, shape, due_s)

    monkeypatch.setattr(NodeBacklog, "finish_s", counted)
    assert route(LADDER, [node(costs=BOTH)], 10.0) is not None
    assert asked == ["base-50"]
    asked.clear()
    assert route(LADDER, [node(costs=BOTH)], 4.0) is not None
    assert asked == ["base-25"], "50 steps take 6 s even on an idle node"
    asked.clear()
    busy = node(slots=1, costs=BOTH)
    busy.add("a", row(10))
    assert route(LADDER, [busy], 7.0) is not None
    assert asked == ["base-50", "base-25"]
    asked.clear()
    twin = offer("twin", 1.0, 10)
    decision = route((*LADDER, twin), [node(costs=BOTH)], 10.0)
    assert decision is not None
    assert decision.offer is twin, "among equals the earliest"
    assert asked == ["base-50", "base-10"]


@pytest.mark.parametrize("seed", range(20))
def test_the_choice_equals_brute_force_over_every_level_and_node(seed: int) -> None:
    rng = random.Random(seed)
    nodes: list[NodeBacklog] = []
    for i in range(rng.randint(1, 5)):
        held = rng.choice([BOTH, {"base": COSTS}, {"small": SMALL_COSTS}])
        model = node(f"n{i}", slots=rng.choice([2, 8]), costs=held)
        model.draining = rng.random() < 0.2
        for j in range(rng.randint(0, 10)):
            model.add(str(j), row(rng.choice([10, 50]), variant=rng.choice(list(held))))
        nodes.append(model)
    remaining_s, price = rng.uniform(1, 30), rng.choice([0.0, 0.02, 0.2])
    best: tuple[float, float, str] | None = None
    for option, model in itertools.product(LADDER, nodes):
        if model.draining or not model.holds(option.row.variant):
            continue
        finish_s = model.finish_s(option.row)
        if finish_s <= remaining_s and price == 0.0:
            rank = (-option.quality, finish_s, model.info.name)
            best = rank if best is None else min(best, rank)
    decision = route(LADDER, nodes, remaining_s, price=price)
    if price == 0.0:
        found = decision and (
            -decision.predicted_quality,
            decision.predicted_finish_s,
            decision.node,
        )
        assert found == best
    elif decision is not None:
        assert decision.predicted_finish_s <= remaining_s


def test_the_fastest_decision_ignores_quality() -> None:
    decision = fastest(LADDER, [node(costs=BOTH)])
    assert decision is not None
    assert decision.offer.level.name == "base-10"
    assert fastest(LADDER, []) is None
