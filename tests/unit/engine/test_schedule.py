"""The choice of the next batch, on rows without an engine."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from argus.diffusion.tables import Line, table_of
from argus.engine.row import PATIENCE_S, BatchKey, Row
from argus.engine.schedule import fill, next_batch, slack_s
from argus.engine.slots import SlotPool
from argus.engine.step import LanePlan

from .conftest import make_request


def make_row(name: str, submitted_s: float = 0.0, steps: int = 10, **changes: Any) -> Row:
    request = make_request(name, **changes)
    table = table_of("ddim", [Line(1, i, a=1, b=1, p=1, r=1) for i in range(steps)], 1.0)
    key = BatchKey(request.variant, (4, 4, 4))
    return Row(request, lambda _: None, key, table, submitted_s)


def step_s(key: BatchKey, lanes: int) -> float:
    return 0.1 if key.variant == "tiny-eps" else 0.02


def test_slack_is_deadline_minus_now_minus_work() -> None:
    row = make_row("a", submitted_s=5.0, steps=10, deadline_s=20.0)
    assert slack_s(row, now_s=8.0, step_s=0.5) == 25.0 - 8.0 - 5.0
    for deadline_s in (None, 3600.0):
        patient = make_row("b", submitted_s=5.0, deadline_s=deadline_s)
        assert slack_s(patient, 8.0, 0.5) == 5.0 + PATIENCE_S - 8.0 - 5.0


def test_fill_takes_the_most_urgent_that_fit() -> None:
    rows = [
        make_row("slow", deadline_s=55.0),
        make_row("soon", deadline_s=5.0),
        make_row("single", deadline_s=50.0, guidance=1.0),
    ]
    assert [r.id[0] for r in fill(rows, 3)] == ["soon", "single"]
    assert [r.id[0] for r in fill(rows, 4)] == ["soon", "single"]
    assert [r.id[0] for r in fill(rows, 5)] == ["soon", "single", "slow"]


def test_rows_in_progress_are_not_overtaken_by_later_ones() -> None:
    rows = [make_row(f"r{n}", submitted_s=0.01 * n, steps=50) for n in range(16)]
    finished: list[str] = []
    while rows:
        for row in next_batch(rows, lambda _: 8, 0.0, step_s):
            row.position += 1
            if not row.steps_left:
                finished.append(row.id[0])
                rows.remove(row)
        assert sum(row.position > 0 for row in rows) <= 4
    assert finished == [f"r{n}" for n in range(16)]


def test_a_batch_never_mixes_keys_and_the_urgent_variant_goes_first() -> None:
    rows = [make_row(f"e{n}") for n in range(3)]
    rows += [make_row("v", variant="tiny-v", deadline_s=1.0)]
    batch = next_batch(rows, lambda _: 8, 0.0, step_s)
    assert [r.id[0] for r in batch] == ["v"]
    assert next_batch([], lambda _: 8, 0.0, step_s) == []


def test_no_variant_starves_under_a_stream_of_the_other() -> None:
    lonely = make_row("lonely", variant="tiny-v")
    now, served = 0.0, 0
    while now < PATIENCE_S + 10 and not served:
        crowd = [make_row(f"c{n}", submitted_s=now) for n in range(4)]
        batch = next_batch([*crowd, lonely], lambda _: 8, now, step_s)
        served = sum(row is lonely for row in batch)
        now += 0.1
    assert served


@given(
    st.lists(st.tuples(st.booleans(), st.floats(0.1, 90), st.integers(1, 30)), max_size=30),
    st.integers(2, 12),
)
def test_batches_fit_and_waste_no_lane(
    specs: list[tuple[bool, float, int]], max_lanes: int
) -> None:
    rows = [
        make_row(f"r{i}", steps=steps, deadline_s=deadline, guidance=5.0 if guided else 1.0)
        for i, (guided, deadline, steps) in enumerate(specs)
    ]
    batch = next_batch(rows, lambda _: max_lanes, 0.0, step_s)
    lanes = sum(row.lanes for row in batch)
    assert lanes <= max_lanes
    left_over = [row.lanes for row in rows if row not in batch]
    assert all(lanes + extra > max_lanes for extra in left_over)
    assert bool(batch) == bool(rows)


def test_lanes_of_a_mixed_batch_point_where_they_should() -> None:
    rows = [make_row("a"), make_row("b", guidance=1.0), make_row("c")]
    for slot, row in zip((4, 0, 2), rows, strict=True):
        row.slot = slot
    plan = LanePlan(rows, padding_slot=9, bucket=8)
    assert plan.slots.tolist() == [4, 4, 0, 2, 2, 9, 9, 9]
    assert plan.texts.tolist() == [8, 9, 1, 4, 5, 18, 18, 18]
    assert plan.owner.tolist()[:5] == [0, 0, 1, 2, 2]
    assert plan.negative.tolist() == [0, 2, 3]
    assert plan.positive.tolist() == [1, 2, 4]


def test_slots_are_taken_once_and_given_back_once() -> None:
    key = BatchKey("v", (4, 4, 4))
    pool = SlotPool(key, 3, {"hidden": (5, 6)}, torch.float32, torch.device("cpu"))
    taken = {pool.take() for _ in range(3)}
    assert taken == {0, 1, 2}
    assert pool.in_use == 3
    pool.give_back(1)
    for wrong in (1, 7, -1):
        with pytest.raises(ValueError, match="not taken"):
            pool.give_back(wrong)
