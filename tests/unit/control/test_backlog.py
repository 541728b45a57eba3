"""The closed model of a node against an engine simulated forward by forward."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from argus.control import backlog
from argus.control.backlog import NodeBacklog, due_s
from argus.control.forecast import Job, finish_times
from argus.control.row_costs import RowShape
from argus.errors import NotFoundError
from argus.types import VariantCosts
from tests.unit.control.build import COSTS, SMALL_COSTS, node, row

BOTH = {"base": COSTS, "small": SMALL_COSTS}


@dataclass
class Live:
    """A row of the simulated engine."""

    index: int
    shape: RowShape
    due_s: float
    left: int
    placed: bool = False
    encoded: bool = False

    @property
    def rank(self) -> tuple[float, int]:
        return (self.due_s, self.index)


def simulate(rows: list[Live], slots: int, max_lanes: int) -> dict[int, float]:
    """Run one forward at a time; the key that ran longest ago is next, its first due rows step.

    Shares no formula with the model: rows are picked into each forward anew.
    """
    costs: dict[str, VariantCosts] = BOTH
    ran: dict[str, float] = {}
    left = list(rows)
    done: dict[int, float] = {}
    now = 0.0
    while left:
        for r in sorted(left, key=lambda r: r.rank):
            if not r.placed and sum(x.placed for x in left) < slots:
                r.placed = True
            if r.placed and not r.encoded:
                now += costs[r.shape.variant].text_encode_s
                r.encoded = True
        live = sorted((r for r in left if r.placed), key=lambda r: r.rank)
        key = min((r.shape.variant for r in live), key=lambda v: (ran.get(v, 0.0), v))
        batch: list[Live] = []
        for r in live:
            taken = sum(b.shape.lanes for b in batch)
            if r.shape.variant == key and taken + r.shape.lanes <= max_lanes:
                batch.append(r)
        now += costs[key].steps.step_s(sum(b.shape.lanes for b in batch))
        ran[key] = now
        for r in batch:
            r.left -= 1
        for r in [b for b in batch if b.left == 0]:
            now += costs[key].decode_s
            done[r.index] = now
            left.remove(r)
    return done


def relative_error(seed: int, variants: list[str]) -> float:
    """Return by how much the model is late for one more row in a random situation."""
    rng = random.Random(seed)
    slots, max_lanes = rng.choice([2, 4, 16]), rng.choice([2, 3, 4, 8])
    model = node(slots=slots, max_lanes=max_lanes, costs=BOTH)
    rows: list[Live] = []
    for i in range(rng.randint(1, 20)):
        shape = row(rng.choice([10, 20, 50]), rng.choice([1, 2]), rng.choice(variants))
        due_at_s = rng.choice([5.0, 20.0, 60.0, 60.0, rng.uniform(1.0, 60.0)])
        rows.append(Live(i, shape, due_at_s, shape.forwards))
    for r in rows[:-1]:
        r.placed = r.index < slots
        model.add(str(r.index), r.shape, r.due_s)
        if r.placed and rng.random() < 0.5:
            r.left -= rng.randrange(r.shape.forwards)
            r.encoded = True
            model.start(str(r.index))
            model.progress(str(r.index), r.shape.forwards - r.left)
    predicted_s = model.finish_s(rows[-1].shape, rows[-1].due_s)
    return predicted_s / simulate(rows, slots, max_lanes)[len(rows) - 1] - 1.0


def test_with_one_variant_the_model_is_exact() -> None:
    for seed in range(200):
        assert relative_error(seed, ["base"]) == pytest.approx(0.0, abs=1e-9)


def test_finish_times_agree_with_an_engine_simulated_forward_by_forward() -> None:
    errors = [relative_error(seed, ["base", "small"]) for seed in range(400)]
    assert min(errors) > -0.20
    assert max(errors) < 0.20
    assert sum(abs(e) for e in errors) / len(errors) < 0.01


def test_rows_end_one_after_the_other_in_the_order_they_are_due() -> None:
    """Two lanes: whoever is due first has them to itself."""
    model = node(max_lanes=2)
    model.add("patient", row(50), due_s=60.0)
    model.start("patient")
    assert model.finish_s(row(10), due_s=5.0) == pytest.approx(0.05 + 10 * 0.12 + 0.20)
    behind_s = 50 * 0.12 + 0.20 + 0.05 + 10 * 0.12 + 0.20
    assert model.finish_s(row(10), due_s=60.0) == pytest.approx(behind_s), "then by arrival"
    assert model.finish_s(row(10), due_s=90.0) == pytest.approx(behind_s)


def test_answers_are_remembered_until_a_row_comes_moves_or_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs: list[int] = []

    def counted(jobs: Sequence[Job], *limits: int | None) -> list[float]:
        runs.append(len(jobs))
        return finish_times(jobs, *limits)  # type: ignore[arg-type]

    monkeypatch.setattr(backlog, "finish_times", counted)
    model = node()
    changes = [
        lambda: model.add("a", row(50), 20.0),
        lambda: model.add("b", row(50), 40.0),
        lambda: model.start("a"),
        lambda: model.progress("a", 3),
        lambda: model.remove("a"),
    ]
    for change in changes:
        change()
        runs.clear()
        first_s = model.finish_s(row(10), 30.0)
        assert model.finish_s(row(10), 31.0) == first_s, "its place is the same"
        assert len(runs) == 1
    model.finish_s(row(10), 50.0)
    assert len(runs) == 2, "behind b its place is another"


def test_a_slot_is_kept_to_the_last_step_and_then_goes_to_the_row_due_first() -> None:
    model = node(slots=1)
    for name, due_at_s in [("a", 60.0), ("b", 50.0), ("c", 40.0)]:
        model.add(name, row(50), due_at_s)
    one_s = 0.05 + 10 * 0.12 + 0.20
    assert model.finish_s(row(10), due_s=5.0) == pytest.approx(0.05 + 50 * 0.12 + 0.20 + one_s)
    model.remove("a")
    model.start("c")
    model.progress("c", 50)
    assert model.finish_s(row(10), due_s=5.0) == pytest.approx(0.20 + 6.25 + one_s)


def test_a_row_with_or_without_a_deadline_is_due_within_a_minute() -> None:
    assert due_s(100.0, 105.0) == 105.0
    assert due_s(100.0, math.inf) == due_s(100.0, 3700.0) == 160.0


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


def test_a_full_batch_of_two_lane_rows_leaves_an_odd_lane_empty() -> None:
    alone_s = pytest.approx(0.05 + 50 * 0.12 + 0.20)
    model = node(max_lanes=3)
    assert model.device_s(row(50)) == model.busy_s(row(50)) == alone_s
    model.add("a", row(50))
    assert model.work_s() == alone_s


def test_the_slowest_piece_of_work_is_known_for_the_watchdog_whatever_rows_there_are() -> None:
    """A full forward, or a decoding, at 128 x 128 where 64 x 64 is native."""
    model = node(costs=BOTH)
    assert model.slowest_s() == pytest.approx(4 * 0.30)
    model.add("a", row(10))
    assert model.slowest_s() == pytest.approx(4 * 0.30)
    assert node(costs={"small": SMALL_COSTS}).slowest_s() == pytest.approx(4 * 0.20)


def test_a_variant_that_is_not_resident_is_refused() -> None:
    model: NodeBacklog = node()
    assert not model.holds("small")
    with pytest.raises(NotFoundError, match="small"):
        model.add("a", row(variant="small"))


def test_a_slow_node_is_predicted_to_be_slow() -> None:
    quick, slow = node(), node()
    for backlog_of in (quick, slow):
        backlog_of.add("r", row())
    slow.slowness = 2.5
    for seconds in ("idle_s", "device_s", "finish_s"):
        assert getattr(slow, seconds)(row()) == pytest.approx(2.5 * getattr(quick, seconds)(row()))
    assert slow.drained_s() == pytest.approx(2.5 * quick.drained_s())
    assert slow.next_free_s() == pytest.approx(2.5 * quick.next_free_s())
