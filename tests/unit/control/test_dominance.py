from __future__ import annotations

import math
import random

import pytest
from scipy.optimize import linprog

from argus.control.dominance import (
    Standing,
    concave_hull,
    cost_s,
    dominates,
    stall_s,
    undominated,
    usual_row,
)
from argus.control.levels import PUBLISHED_SKIPS
from argus.types import Level
from tests.unit.control.build import COSTS, SMALL_COSTS, node, variant


def standing(
    name: str,
    quality: float | tuple[float, ...],
    cost: float | tuple[float, ...],
    *,
    skip: float = 0.0,
    variant: str = "base",
) -> Standing:
    qualities = quality if isinstance(quality, tuple) else (quality,)
    costs = cost if isinstance(cost, tuple) else (cost,)
    return Standing(Level(name, variant, 1.0, qualities[0], skip), qualities, costs)


def names(standings: tuple[Standing, ...]) -> list[str]:
    return [x.level.name for x in standings]


def test_a_level_that_is_worse_and_dearer_is_dropped() -> None:
    best, middle, worse = (
        standing("best", 1.0, 4.0),
        standing("middle", 0.9, 2.0),
        standing("worse", 0.85, 2.5),
    )
    assert names(undominated([best, worse, middle])) == ["best", "middle"]


def test_levels_that_are_equal_in_all_are_both_kept() -> None:
    twins = [standing("a", 0.9, 2.0), standing("b", 0.9, 2.0)]
    assert names(undominated(twins)) == ["a", "b"]


def test_what_is_best_for_some_class_or_on_some_node_is_kept() -> None:
    by_class = [standing("a", (1.0, 0.7), 2.0), standing("b", (0.8, 0.8), 2.0)]
    by_node = [standing("a", 0.9, (2.0, math.inf)), standing("b", 0.8, (3.0, 1.0))]
    for pair in (by_class, by_node):
        assert names(undominated(pair)) == ["a", "b"]


def test_a_level_that_needs_a_state_drops_only_what_needs_a_later_one() -> None:
    whole = standing("whole", 0.9, 4.0)
    early = standing("early", 0.95, 2.0, skip=0.2)
    late = standing("late", 0.9, 2.5, skip=0.4)
    other = standing("other", 0.9, 2.5, skip=0.4, variant="other")
    assert not dominates(early, whole)
    assert not dominates(early, other)
    assert names(undominated([whole, early, late, other])) == ["whole", "early", "other"]
    # The whole run needs none, so it can drop any.
    assert dominates(standing("fast", 0.95, 1.0), early)


def test_slow_retrieval_makes_a_skip_dearer_than_the_whole_run() -> None:
    base = variant()
    level = Level("base-skip-5", "base", 1.0, 0.97, 0.1)
    whole = Level("base-reference", "base", 1.0, 1.0)
    row, full = (usual_row(x, base, base) for x in (level, whole))
    held = node()
    assert cost_s(held, level, row) < cost_s(held, whole, full)
    slow = cost_s(held, level, row, stalled_s=stall_s(1.0, wait_s=0.5))
    assert slow == pytest.approx(cost_s(held, level, row) + 0.5)
    # Whole runs wait for no state.
    assert cost_s(held, whole, full, stalled_s=9.0) == cost_s(held, whole, full)
    pair = [
        Standing(whole, (1.0,), (cost_s(held, whole, full),)),
        Standing(level, (0.97,), (slow,)),
    ]
    assert names(undominated(pair)) == ["base-reference"]


def test_a_usual_row_takes_size_and_steps_from_the_reference() -> None:
    small = variant("small", default_steps=4, default_guidance=1.0, width=32, height=32)
    row = usual_row(Level("x", "small", 0.5, 0.8), variant(default_steps=40), small)
    assert (row.variant, row.width, row.forwards, row.lanes) == ("small", 64, 20, 1)
    held = node(costs={"small": SMALL_COSTS})
    assert cost_s(held, Level("x", "small", 0.5, 0.8), row) == held.device_s(row)
    base_row = usual_row(Level("y", "base", 1.0, 1.0), variant(), variant())
    assert cost_s(held, Level("y", "base", 1.0, 1.0), base_row) == math.inf
    # In full batches of eight lanes two lanes pay for a quarter.
    assert node().device_s(base_row) == pytest.approx(0.05 + 50 * COSTS.steps.step_s(8) / 4 + 0.2)


def test_the_published_hull_has_three_levels() -> None:
    points = [(4.2, 1.0), *((4.2 * (1 - s), q) for s, q in PUBLISHED_SKIPS.items())]
    # 5, 10 and 15 skipped steps lose more than a mix of 0 and 20 that takes as long.
    assert concave_hull(points) == (5, 4, 0)


def best_mix(points: list[tuple[float, float]], budget: float) -> float:
    """Return the best quality of a mix within a budget, as a linear program over all points."""
    solved = linprog(
        [-quality for _, quality in points],
        A_ub=[[cost for cost, _ in points]],
        b_ub=[budget],
        A_eq=[[1.0] * len(points)],
        b_eq=[1.0],
    )
    return -float(solved.fun)


def test_mixes_of_the_hull_are_as_good_as_mixes_of_all() -> None:
    rng = random.Random(5)
    for _ in range(20):
        points = [(rng.uniform(1, 5), rng.random()) for _ in range(rng.randint(1, 9))]
        hull = [points[i] for i in concave_hull(points)]
        assert hull == sorted(hull)
        cheapest, dearest = min(points)[0], max(points)[0]
        for share in (0.0, 0.4, 0.8):
            budget = cheapest + share * (dearest - cheapest) + 1e-9
            assert best_mix(hull, budget) == pytest.approx(best_mix(points, budget), abs=1e-7)
        for i in range(1, len(hull) - 1):
            without = hull[:i] + hull[i + 1 :]
            assert best_mix(without, hull[i][0]) < hull[i][1]


def test_levels_that_cannot_run_are_on_no_hull() -> None:
    assert concave_hull([(math.inf, 1.0), (2.0, 0.5)]) == (1,)
    assert concave_hull([]) == ()
