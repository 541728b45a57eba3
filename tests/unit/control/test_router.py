"""One request's level and node, on nodes with work of their own."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from argus.control.backlog import NodeBacklog
from argus.control.router import idle_finish_s, takers
from tests.unit.control.build import COSTS, SMALL_COSTS, node, row
from tests.unit.control.deciding import BOTH, LADDER, decide


def test_an_idle_cluster_serves_the_reference() -> None:
    decision = decide(LADDER, [node(costs=BOTH)], 10.0)
    assert decision is not None
    assert (decision.offer.level.name, decision.predicted_quality) == ("base-50", 1.0)
    assert decision.predicted_finish_s == pytest.approx(0.05 + 50 * 0.12 + 0.2)


def test_a_tight_deadline_degrades_to_the_best_level_that_is_on_time() -> None:
    for remaining_s, name in [(6.4, "base-50"), (4.0, "base-25"), (2.5, "small-50")]:
        decision = decide(LADDER[:2] + LADDER[3:], [node(costs=BOTH)], remaining_s)
        assert decision is not None
        assert decision.offer.level.name == name
    assert decide(LADDER, [node(costs=BOTH)], 1.0) is None


def test_without_a_deadline_the_reference_is_kept_whatever_the_load() -> None:
    busy = node(costs=BOTH)
    for i in range(200):
        busy.add(str(i), row(50))
    decision = decide(LADDER, [busy], None)
    assert decision is not None
    assert decision.offer is LADDER[0]


def test_the_node_that_finishes_first_is_chosen_and_equals_go_by_name() -> None:
    busy, idle, other = node("a"), node("b"), node("c")
    busy.add("x", row(50))
    decision = decide(LADDER, [other, busy, idle], None)
    assert decision is not None
    assert decision.node == "b"


def test_draining_nodes_and_nodes_without_the_variant_are_left_out() -> None:
    draining, wrong, right = node("a"), node("b", costs={"small": SMALL_COSTS}), node("c")
    draining.draining = True
    assert takers(LADDER[0], [draining, wrong, right]) == [right]
    assert decide(LADDER[:1], [draining, wrong], None) is None
    assert decide(LADDER[:1], [draining, wrong], 100.0) is None
    assert decide((), [right], None) is None
    assert idle_finish_s(LADDER[:1], [draining, wrong]) is None
    decision = decide(LADDER, [draining, wrong, right], None)
    assert decision is not None
    assert decision.node == "c"


@pytest.mark.parametrize("seed", range(20))
def test_the_choice_equals_brute_force_over_every_level_and_node(seed: int) -> None:
    """Up to three nodes of each kind: so many are asked for a forecast."""
    rng = random.Random(seed)
    nodes: list[NodeBacklog] = []
    kinds = [BOTH, {"base": COSTS}, {"small": SMALL_COSTS}]
    for i in range(rng.randint(1, 6)):
        held = kinds[i % 3]
        model = node(f"n{i}", slots=rng.choice([2, 8]), costs=held)
        model.draining = rng.random() < 0.2
        for j in range(rng.randint(0, 10)):
            model.add(str(j), row(rng.choice([10, 50]), variant=rng.choice(list(held))))
        nodes.append(model)
    remaining_s = rng.uniform(1, 30)
    margin = 1.02
    best: tuple[float, float, str] | None = None
    for option, model in itertools.product(LADDER, nodes):
        if model.draining or not model.holds(option.row.variant):
            continue
        finish_s = model.finish_s(option.row, remaining_s)
        # Nothing was learned yet: a node that is half full is taken to fill up.
        more_s = model.filled_s(option.row, remaining_s) - finish_s
        likely_s = finish_s + min(1.0, 2 * len(model) / model.info.slots) * more_s
        if likely_s * margin <= remaining_s:
            rank = (-option.quality, finish_s, model.info.name)
            best = rank if best is None else min(best, rank)
    if best is None:
        return
    decision = decide(LADDER, nodes, remaining_s)
    assert decision is not None
    found = (-decision.predicted_quality, decision.predicted_finish_s, decision.node)
    assert found == (best[0], pytest.approx(best[1]), best[2])


@pytest.mark.parametrize("seed", range(20))
def test_among_many_equal_nodes_none_is_much_sooner_than_the_one_chosen(seed: int) -> None:
    rng = random.Random(seed)
    nodes = [node(f"n{i:02}", slots=4) for i in range(24)]
    for model in nodes:
        for j in range(rng.randint(1, 12)):
            model.add(str(j), row(rng.choice([10, 25, 50])), rng.uniform(5.0, 60.0))
    decision = decide(LADDER[:1], nodes, None)
    assert decision is not None
    best_s = min(model.finish_s(LADDER[0].row, 60.0) for model in nodes)
    assert decision.predicted_finish_s <= 1.1 * best_s
    assert best_s < math.inf
