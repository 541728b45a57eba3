"""The closed model of a node against an engine simulated forward by forward."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from argus.control.backlog import NodeBacklog, RowShape
from argus.errors import NotFoundError
from argus.types import VariantCosts
from tests.unit.control.build import COSTS, SMALL_COSTS, node, row

BOTH = {"base": COSTS, "small": SMALL_COSTS}


@dataclass
class Live:
    """A row of the simulated engine."""

    index: int
    shape: RowShape
    left: int
    last_s: float


def simulate(shapes: list[RowShape], slots: int, max_lanes: int) -> list[float]:
    """Run one forward at a time, the longest waiting rows of one variant first.

    Shares no formula with the model: rows are picked into each forward, and whoever made no step
    for the longest time goes next.
    """
    costs: dict[str, VariantCosts] = BOTH
    queue = list(enumerate(shapes))
    live: list[Live] = []
    done = [0.0] * len(shapes)
    now = 0.0
    while queue or live:
        while queue and len(live) < slots:
            index, shape = queue.pop(0)
            now += costs[shape.variant].text_encode_s
            live.append(Live(index, shape, shape.forwards, now))
        live.sort(key=lambda r: r.last_s)
        batch: list[Live] = []
        for r in live:
            same = r.shape.variant == live[0].shape.variant
            if same and sum(b.shape.lanes for b in batch) + r.shape.lanes <= max_lanes:
                batch.append(r)
        lanes = sum(b.shape.lanes for b in batch)
        now += costs[batch[0].shape.variant].steps.step_s(lanes)
        for r in batch:
            r.left -= 1
            r.last_s = now
        for r in [b for b in batch if b.left == 0]:
            now += costs[r.shape.variant].decode_s
            done[r.index] = now
            live.remove(r)
    return done


def relative_error(seed: int) -> float:
    rng = random.Random(seed)
    slots, max_lanes = rng.choice([2, 4, 16]), rng.choice([2, 4, 8])
    shapes = [
        row(rng.choice([10, 20, 50]), rng.choice([1, 2]), rng.choice(["base", "small"]))
        for _ in range(rng.randint(1, 20))
    ]
    model = node(slots=slots, max_lanes=max_lanes, costs=BOTH)
    for i, shape in enumerate(shapes[:-1]):
        model.add(str(i), shape)
    return model.finish_s(shapes[-1]) / simulate(shapes, slots, max_lanes)[-1] - 1.0


def test_finish_times_agree_with_an_engine_simulated_forward_by_forward() -> None:
    """Late at most 40 %, where a one-lane row fills gaps that the model does not see."""
    errors = [relative_error(seed) for seed in range(400)]
    assert min(errors) > -0.10
    assert max(errors) < 0.40
    assert sum(abs(e) for e in errors) / len(errors) < 0.05


def test_equal_rows_in_one_batch_have_a_closed_form() -> None:
    model = node()
    for i in range(3):
        model.add(str(i), row(50))
    expected = 4 * 0.05 + 50 * 0.30 + 4 * 0.20  # 4 rows x 2 lanes share every forward
    assert model.finish_s(row(50)) == pytest.approx(expected)
    assert model.idle_s(row(50)) == pytest.approx(0.05 + 50 * 0.12 + 0.20)


def test_a_batch_is_far_cheaper_than_the_sum_of_its_rows() -> None:
    model = node()
    for i in range(3):
        model.add(str(i), row(50))
    assert model.finish_s(row(50)) < 0.7 * 4 * model.idle_s(row(50))


def test_progress_and_removal_bring_the_end_nearer_and_nothing_is_left_over() -> None:
    model = node(slots=1)
    model.add("a", row(50))
    model.add("b", row(50))
    before = model.finish_s(row(10))
    model.start("a")
    model.progress("a", 40)
    assert model.finish_s(row(10)) == pytest.approx(before - 0.05 - 40 * 0.12)
    assert model.next_free_s() == pytest.approx(10 * 0.12 + 0.20)
    model.progress("a", 50)
    assert model.next_free_s() == pytest.approx(0.20)
    model.remove("a")
    model.remove("b")
    assert (len(model), model.drained_s(), model.next_free_s()) == (0, 0.0, 0.0)
    assert model.finish_s(row(10)) == model.idle_s(row(10))


def test_reports_about_unknown_rows_change_nothing() -> None:
    model = node()
    model.start("ghost")
    model.progress("ghost", 3)
    model.remove("ghost")
    assert len(model) == 0


def test_a_row_behind_full_slots_waits_for_the_first_to_leave() -> None:
    model = node(slots=2)
    model.add("short", row(10))
    model.add("long", row(50))
    alone = model.drained_s()
    assert model.finish_s(row(10)) > 10 * 0.18 + 0.2
    assert model.finish_s(row(10)) < alone + 10 * 0.12 + 1.0


def test_two_lane_rows_are_not_split_over_an_odd_width() -> None:
    model = node(max_lanes=3)
    model.add("a", row(10))
    assert model.finish_s(row(10)) == pytest.approx(2 * 0.05 + 10 * 2 * 0.12 + 2 * 0.2)


def test_a_larger_picture_costs_by_its_area_and_shares_no_forward() -> None:
    model = node()
    assert model.idle_s(row(10, size=128)) == pytest.approx(0.05 + 10 * 4 * 0.12 + 0.2)
    model.add("small", row(10))
    apart = 2 * 0.05 + 10 * (0.12 + 4 * 0.12) + 2 * 0.2
    assert model.finish_s(row(10, size=128)) == pytest.approx(apart)


def test_device_seconds_are_those_of_a_full_batch() -> None:
    assert node().device_s(row(50)) == pytest.approx(0.05 + 50 * 0.30 / 4 + 0.20)


def test_the_slowest_piece_of_work_is_known_for_the_watchdog() -> None:
    model = node()
    assert model.slowest_s() == 0.0
    model.add("a", row(10, size=128))
    assert model.slowest_s() == pytest.approx(4 * 0.30)


def test_a_variant_that_is_not_resident_is_refused() -> None:
    model: NodeBacklog = node()
    assert not model.holds("small")
    with pytest.raises(NotFoundError, match="small"):
        model.add("a", row(variant="small"))
