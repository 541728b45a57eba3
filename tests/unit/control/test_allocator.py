from __future__ import annotations

from dataclasses import replace

import allocator_problems
import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argus.control.allocation import Allocation, Group, Problem, PromptClass, Solved
from argus.control.allocator import Allocator
from argus.errors import InvalidArgumentError
from argus.types import Level
from tests.unit.control.exhaustive import best_of_all, by_second_model

BIG = Level("big", "big", 1.0, 1.0)
BIG_HALF = Level("big-half", "big", 1.0, 0.9, 0.5)
SMALL = Level("small", "small", 1.0, 0.8)
LADDER = (BIG, BIG_HALF, SMALL)
SECONDS = {"big": 4.0, "big-half": 2.0, "small": 1.0}
BYTES = {"big": 3.0, "small": 1.0}
LOADS = {"big": 30.0, "small": 10.0}
QUALITY = {level.name: level.quality for level in LADDER}


def group(nodes: int = 4, *, holds: str = "big", memory: float = 3.0, **changes: object) -> Group:
    made = Group("gpu", {frozenset(holds.split()): nodes}, SECONDS, memory, LOADS)
    return replace(made, **changes)  # type: ignore[arg-type]


def prompts(rate_per_s: float, **changes: object) -> PromptClass:
    return replace(PromptClass("all", rate_per_s, QUALITY), **changes)  # type: ignore[arg-type]


def problem(*parts: Group | PromptClass, **changes: object) -> Problem:
    groups = tuple(x for x in parts if isinstance(x, Group))
    classes = tuple(x for x in parts if isinstance(x, PromptClass))
    return replace(Problem(LADDER, groups, classes, BYTES, 1.0), **changes)  # type: ignore[arg-type]


def made_per_s(allocation: Allocation) -> float:
    return sum(rate for plan in allocation.groups for rate in plan.rates_per_s.values())


@pytest.fixture(scope="module")
def allocator() -> Allocator:
    return Allocator(gap=2e-4, time_limit_s=60.0)


def test_calm_demand_gets_the_reference_and_nothing_moves(allocator: Allocator) -> None:
    found = allocator.solve(problem(group(), prompts(0.5)))
    assert found.shares == {"all": {"big": pytest.approx(1.0)}}
    assert (found.solved, found.moves, found.groups[0].price) == (Solved.KEPT, 0, 0.0)


def test_reuse_carries_what_the_reference_cannot(allocator: Allocator) -> None:
    # 4 device seconds a second: x pictures of 4 s and 1.5 − x of 2 s; x = 0.5.
    found = allocator.solve(problem(group(load_s=None), prompts(1.5)))
    assert found.shares["all"] == {
        "big": pytest.approx(1 / 3),
        "big-half": pytest.approx(2 / 3),
    }
    # A second more makes half a picture 0.1 better each 2 s.
    assert found.groups[0].price == pytest.approx(0.1 / 2)


def test_smaller_models_are_loaded_when_reuse_is_not_enough(allocator: Allocator) -> None:
    found = allocator.solve(problem(group(), prompts(2.9)))
    plan = found.groups[0]
    # Two nodes make one a second from states, two more the other 1.9: three and one would not do.
    assert plan.residency == {frozenset({"big"}): 2, frozenset({"small"}): 2}
    assert [(m.nodes, set(m.after)) for m in plan.moves] == [(2, {"small"})]
    assert found.unmet("all") == pytest.approx(0.0, abs=1e-6)


def test_a_load_that_takes_longer_than_its_use_is_not_worth_it(allocator: Allocator) -> None:
    found = allocator.solve(problem(group(), prompts(2.9), horizon_s=10.0))
    assert (found.moves, found.solved) == (0, Solved.KEPT)


def test_too_much_demand_is_shed_where_it_costs_least(allocator: Allocator) -> None:
    kinds = [replace(prompts(1.0), name=f"loss-{x}", unmet_loss=float(x)) for x in (1, 5, 3)]
    found = allocator.solve(problem(group(load_s=None), *kinds))
    # 2 a second are the most that can be made.
    assert [found.unmet(kind.name) for kind in kinds] == pytest.approx([1.0, 0.0, 0.0], abs=1e-6)


def test_a_floor_is_kept_even_at_the_cost_of_refusing(allocator: Allocator) -> None:
    strict = prompts(2.0, floor=0.95)
    found = allocator.solve(problem(group(load_s=None), strict))
    shares = found.shares["all"]
    mean = sum(QUALITY[x] * share for x, share in shares.items()) / sum(shares.values())
    assert mean == pytest.approx(0.95)
    # Half of them whole, half from states: 3 s each, so 4/3 of the 2 a second.
    assert found.unmet("all") == pytest.approx(1 / 3)


def test_levels_go_where_they_are_relatively_cheap(allocator: Allocator) -> None:
    fast = group(1, holds="big small", memory=4.0, name="fast")
    # Twice as slow with the small variant, eight times as slow with the big one.
    slow = group(1, holds="big small", memory=4.0, name="slow")
    slow = replace(slow, seconds={"big": 32.0, "big-half": 16.0, "small": 2.0})
    whole = {"big": 1.0, "small": 0.8}
    found = allocator.solve(problem(fast, slow, prompts(0.75, quality=whole, unmet_loss=1.0)))
    rates = {plan.name: plan.rates_per_s for plan in found.groups}
    assert rates["slow"] == {"small": pytest.approx(0.5)}
    assert rates["fast"] == {"big": pytest.approx(0.25)}


def test_occupancy_leaves_room(allocator: Allocator) -> None:
    for occupancy in (1.0, 0.5):
        found = allocator.solve(problem(group(load_s=None), prompts(99.0), occupancy=occupancy))
        assert made_per_s(found) == pytest.approx(2.0 * occupancy)


def test_classes_that_nobody_asked_for_have_a_level_ready(allocator: Allocator) -> None:
    busy, quiet = prompts(1.5), replace(prompts(0.0), name="quiet")
    found = allocator.solve(problem(group(load_s=None), busy, quiet))
    # At .05 a second 4 s cost as much as they are worth more than 2 s: either will do.
    assert sum(found.shares["quiet"].values()) == 1.0
    calm = allocator.solve(problem(group(load_s=None), replace(busy, rate_per_s=0.1), quiet))
    assert calm.shares["quiet"] == {"big": 1.0}


def test_no_nodes_no_prompts_and_no_levels_are_answered(allocator: Allocator) -> None:
    assert allocator.solve(problem(prompts(2.0, unmet_loss=1.5))).objective == -3.0
    assert allocator.solve(problem(group(0), prompts(1.0))).unmet("all") == 1.0
    assert allocator.solve(problem(group())).shares == {}
    assert allocator.solve(problem(group(holds=""), prompts(1.0), horizon_s=20.0)).moves == 2


def test_the_price_is_what_another_second_is_worth(allocator: Allocator) -> None:
    for load in (0.5, 1.5, 1.9, 2.5):
        kinds = (prompts(load), replace(prompts(load / 3), name="b", unmet_loss=0.5))
        base = problem(group(load_s=None), group(2, name="other", load_s=None), *kinds)
        found = allocator.solve(base)
        more = allocator.solve(replace(base, occupancy=1.0 - 1e-4))
        # Each node loses 1e-4 of its seconds.
        worth = sum(x.price * y.nodes for x, y in zip(found.groups, base.groups, strict=True))
        assert (found.objective - more.objective) / 1e-4 == pytest.approx(worth, abs=1e-4)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"occupancy": 0.0}, "occupancy"),
        ({"horizon_s": -1.0}, "horizon_s"),
        ({"levels": (BIG, BIG, BIG_HALF, SMALL)}, "levels"),
        ({"groups": (group(seconds={"bgi": 1.0}),)}, "groups.gpu.seconds"),
        ({"groups": (group(seconds={"big": 0.0}),)}, "groups.gpu.seconds"),
        ({"classes": (prompts(float("nan")),)}, "classes.all"),
        ({"classes": (prompts(1.0, quality={"big": float("inf")}),)}, "classes.all.quality"),
    ],
)
def test_bad_problems_name_the_field(change: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        problem(group(), prompts(1.0), **change)
    assert raised.value.field == field


PUBLISHED_QUALITY = (1.0, 0.97046, 0.95808, 0.94378, 0.93235, 0.9152)
PUBLISHED_PER_MINUTE = (14.29, 15.87, 17.86, 20.41, 23.81, 28.57)


def published(per_minute: float, *, mixed: bool) -> Problem:
    """Return the published allocator's problem: each of eight GPUs makes one level's pictures.

    Levels stand for variants of which one fits on a node, and loading takes no time. `mixed`: a
    GPU may make pictures of every level, as here.
    """
    levels = tuple(
        Level(f"skip-{5 * i}", "sdxl" if mixed else f"skip-{5 * i}", 1.0, quality)
        for i, quality in enumerate(PUBLISHED_QUALITY)
    )
    seconds = {
        level.name: 60.0 / (1.65 * rate)
        for level, rate in zip(levels, PUBLISHED_PER_MINUTE, strict=True)
    }
    variants = sorted({level.variant for level in levels})
    holds = frozenset({"sdxl"}) if mixed else frozenset()
    gpus = Group("gpu", {holds: 8}, seconds, 1.0, dict.fromkeys(variants, 0.0))
    quality = {level.name: level.quality for level in levels}
    kind = PromptClass("all", per_minute / 60.0, quality, unmet_loss=1.0)
    return Problem(levels, (gpus,), (kind,), dict.fromkeys(variants, 1.0), 1.0)


@pytest.mark.parametrize(
    ("per_minute", "quality"), [(200, 98.8), (250, 95.8), (300, 93.6), (350, 92.1), (370, 91.5)]
)
def test_published_optima_are_reproduced(
    allocator: Allocator, per_minute: int, quality: float
) -> None:
    found = allocator.solve(published(per_minute, mixed=False))
    per_picture = 100.0 * found.objective / (per_minute / 60.0)
    assert per_picture == pytest.approx(quality, abs=0.06)
    assert found.unmet("all") == pytest.approx(0.0, abs=1e-6)
    # A GPU need not stay at one level: what the published formulation gives away.
    mixed = allocator.solve(published(per_minute, mixed=True))
    assert mixed.objective >= found.objective - 1e-9


def test_beyond_the_published_limit_some_are_shed(allocator: Allocator) -> None:
    assert allocator.solve(published(377, mixed=False)).unmet("all") == pytest.approx(0, abs=1e-6)
    assert allocator.solve(published(380, mixed=False)).unmet("all") == pytest.approx(
        1 - 377.1 / 380, abs=1e-4
    )


VARIANTS = ("a", "b", "c")


@st.composite
def small_problems(draw: st.DrawFn) -> Problem:
    variants = VARIANTS[: draw(st.integers(1, 3))]
    hundredths = st.integers(1, 100).map(lambda x: x / 100)
    levels = tuple(
        Level(f"{v}{i}", v, 1.0, draw(hundredths))
        for v in variants
        for i in range(draw(st.integers(1, 2)))
    )
    nodes_left = 4 if len(variants) < 3 else 2
    groups = []
    for g in range(draw(st.integers(1, 2))):
        nodes = draw(st.integers(1, nodes_left // (2 if g else 1))) if not g else 1
        holds = draw(st.sampled_from([(), *[(v,) for v in variants]]))
        groups.append(
            Group(
                f"g{g}",
                {frozenset(holds): nodes},
                {x.name: draw(st.integers(1, 40)) / 10 for x in levels if draw(st.booleans())},
                draw(st.sampled_from([1.0, 2.0, 3.0])),
                {v: draw(st.integers(0, 50)) * 1.0 for v in variants},
            )
        )
    kinds = tuple(
        PromptClass(
            f"c{c}",
            draw(st.integers(0, 60)) / 10,
            {x.name: draw(hundredths) for x in levels if draw(st.integers(0, 3))},
            floor=draw(st.sampled_from([0.0, 0.5, 0.8])),
            unmet_loss=draw(st.sampled_from([0.0, 0.3])),
        )
        for c in range(draw(st.integers(1, 2)))
    )
    sizes = {v: draw(st.sampled_from([1.0, 2.0])) for v in variants}
    return Problem(levels, tuple(groups), kinds, sizes, draw(st.sampled_from([0.7, 1.0])), 60.0)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(small_problems())
def test_small_problems_are_within_a_thousandth_of_brute_force(case: Problem) -> None:
    found = Allocator(gap=5e-4, time_limit_s=60.0).solve(case)
    best = best_of_all(case)
    assert found.objective <= best + 1e-6
    assert found.objective >= best - 1e-3 * abs(best) - 1e-6
    assert found.bound >= best - 1e-6
    spent = {plan.name: plan for plan in found.groups}
    for group_ in case.groups:
        plan = spent[group_.name]
        assert sum(plan.residency.values()) == group_.nodes
        used = sum(group_.seconds[x] * rate for x, rate in plan.rates_per_s.items())
        assert used <= case.occupancy * group_.nodes + 1e-5


@settings(max_examples=15, deadline=None, derandomize=True)
@given(small_problems())
def test_when_the_time_is_over_nothing_is_worse_than_staying(case: Problem) -> None:
    found = Allocator(gap=1e-6, time_limit_s=0.0).solve(case)
    staying = replace(case, groups=tuple(replace(g, load_s=None) for g in case.groups))
    assert found.objective >= Allocator(gap=1e-6).solve(staying).objective - 1e-6
    assert found.objective <= best_of_all(case) + 1e-6


def test_without_branch_and_bound_rounding_is_mended() -> None:
    missing = {0: 0.0, 400: 0.0}
    for per_minute in (200, 300, 350, 370):
        case = published(per_minute, mixed=False)
        best = Allocator(gap=1e-5, time_limit_s=60.0).solve(case).objective
        for mends in missing:
            found = Allocator(1e-5, 0.0, mends).solve(case)
            assert found.solved is Solved.FALLBACK
            missing[mends] += (best - found.objective) / best
    assert 0.0 <= missing[400] < missing[0]
    assert missing[400] < 0.01


@pytest.mark.parametrize(("nodes", "kinds"), [(64, 1), (256, 3), (4096, 4)])
def test_a_second_model_finds_nothing_better_in_large_clusters(nodes: int, kinds: int) -> None:
    allocator = Allocator()
    for load in (0.8, 1.6, 3.0):
        case = allocator_problems.problem(nodes, kinds, load, np.random.default_rng(nodes))
        found = allocator.solve(case)
        objective, bound = by_second_model(case, gap=2e-4)
        assert found.objective >= objective * (1 - 1e-3)
        assert found.objective <= bound * (1 + 1e-6)


def test_an_interior_point_solver_agrees_with_flows_and_price() -> None:
    case = allocator_problems.problem(512, 4, 1.5, np.random.default_rng(0))
    case = replace(case, groups=tuple(replace(g, load_s=None) for g in case.groups))
    found = Allocator().solve(case)
    made, rows, rooms, count = {}, [], [], len(case.classes)
    for g in case.groups:
        held = [
            (p, n, cp.Variable((count, len(case.levels)), nonneg=True))
            for p, n in g.present.items()
        ]
        seconds = np.array([g.seconds[x.name] for x in case.levels])
        for p, n, flow in held:
            made[g.name, p] = flow
            rooms.append(cp.sum(flow @ seconds) <= case.occupancy * n)
            rows += [flow[:, i] == 0 for i, x in enumerate(case.levels) if x.variant not in p]
    total = sum(made.values())
    quality = np.array([[k.quality[x.name] for x in case.levels] for k in case.classes])
    rows += [cp.sum(total, axis=1) <= [k.rate_per_s for k in case.classes]]
    rows += [cp.sum(cp.multiply(quality - 0.8, total), axis=1) >= 0]
    program = cp.Problem(cp.Maximize(cp.sum(cp.multiply(quality, total))), rooms + rows)
    program.solve(solver=cp.CLARABEL)
    assert found.objective == pytest.approx(program.value, rel=1e-5)
    for plan, (low, high) in zip(
        found.groups, zip(rooms[::2], rooms[1::2], strict=True), strict=True
    ):
        prices = [float(low.dual_value), float(high.dual_value)]
        assert min(prices) - 1e-5 <= plan.price <= max(prices) + 1e-5
