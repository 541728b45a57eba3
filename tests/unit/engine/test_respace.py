"""How many forwards a row that would be late is left with, on rows without an engine."""

from __future__ import annotations

import random

from argus.diffusion.tables import Line, table_of
from argus.engine.respace import SPARE, affordable
from argus.engine.row import Row

from .test_schedule import make_row


def hurried(steps: int, deadline_s: float, fewest: int) -> Row:
    return make_row("hurried", steps=steps, deadline_s=deadline_s, fewest_forwards=fewest)


def test_a_row_that_is_on_time_is_left_as_it_is() -> None:
    assert affordable(hurried(10, 11.0, 2), 0.0, step_s=1.0, decode_s=1.0) is None
    assert affordable(hurried(10, 10.9, 2), 0.0, step_s=1.0, decode_s=1.0) == 9 - SPARE


def test_no_row_is_left_with_fewer_than_it_must_have() -> None:
    assert affordable(hurried(10, 5.0, 8), 0.0, step_s=1.0, decode_s=1.0) == 8
    assert affordable(hurried(10, 5.0, 10), 0.0, step_s=1.0, decode_s=1.0) is None
    assert affordable(hurried(10, 5.0, 0), 0.0, step_s=1.0, decode_s=1.0) is None
    assert affordable(hurried(10, 0.5, 1), 0.0, step_s=1.0, decode_s=1.0) == 1
    row = hurried(10, 5.0, 8)
    row.position = 6
    assert affordable(row, 2.0, step_s=1.0, decode_s=1.0) == 2


def test_a_row_that_is_spaced_anew_survives_slow_steps() -> None:
    """Steps of 70 to 130 % of what is thought: hardly a row is late, and little time is left."""
    rng = random.Random(7)
    late, idle_s = 0, []
    for _ in range(1000):
        deadline_s = rng.uniform(10.0, 45.0)
        row, now_s = hurried(50, deadline_s, 1), 0.0
        while row.steps_left:
            target = affordable(row, now_s, step_s=1.0, decode_s=0.0)
            if target is not None:
                lines = [Line(1, i, a=1, b=1, p=1, r=1) for i in range(target)]
                row.replace_table(table_of("ddim", lines, 1.0))
            row.position += 1
            now_s += rng.uniform(0.7, 1.3)
        late += now_s > deadline_s
        idle_s.append(deadline_s - now_s)
    assert late <= 10
    assert sum(idle_s) / len(idle_s) < SPARE + 1
