"""Simulated batches against rows stepped one forward at a time by the engine's own choice."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np
import pytest

from argus.control.forecast import Job, finish_times
from argus.control.policy import Task
from argus.engine.schedule import next_batch
from argus.sim.batching import BatchingNode, DeviceSeconds
from argus.sim.engine import simulate
from argus.sim.node import Row
from argus.sim.published import published_profile
from argus.sim.setting import SimSetting
from argus.sim.types import Batching
from tests.unit.sim.checking import check
from tests.unit.sim.simple import BestOnTime, FixedLevel, same_prompts, trace_of

BASE = DeviceSeconds((0.0, 0.10, 0.12, 0.15, 0.18, 0.21, 0.24, 0.27, 0.30), 0.05, 0.20)
SMALL = DeviceSeconds((0.0, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09, 0.10), 0.0, 0.0)
BOTH = {"base": BASE, "small": SMALL}


@dataclass(eq=False)
class Stepped:
    """A row of the reference, with the names that the engine's schedule asks for."""

    index: int
    key: str
    lanes: int
    steps_left: int
    submitted_s: float
    due_s: float


def rows_of(seed: int, variants: list[str], gap_s: float) -> tuple[list[Stepped], int, int]:
    rng = random.Random(seed)
    slots, max_lanes = rng.choice([2, 4, 16]), rng.choice([2, 3, 4, 8])
    at_s = 0.0
    rows = []
    for i in range(rng.randint(1, 25)):
        # Never two at once: on an idle device the first one starts, whoever comes with it.
        at_s += rng.choice([1e-6, rng.expovariate(1 / gap_s) if gap_s else 1e-6])
        # Never two at once: equal urgencies are told apart by the last bit of a sum.
        due_s = rng.choice([5.0, 20.0, 60.0, rng.uniform(1.0, 60.0)]) + rng.uniform(0.0, 1.0)
        forwards, lanes = rng.choice([3, 10, 20]), rng.choice([1, 2])
        rows.append(Stepped(i, rng.choice(variants), lanes, forwards, at_s, due_s))
    return rows, slots, max_lanes


def one_forward_at_a_time(rows: list[Stepped], slots: int, max_lanes: int) -> dict[int, float]:
    """Return when each row is done; between two forwards everything is looked at anew."""
    coming, line, held = list(rows), [], []
    done: dict[int, float] = {}
    now = 0.0
    while coming or line or held:
        if not line and not held:
            now = max(now, coming[0].submitted_s)
        while True:
            line += [r for r in coming if r.submitted_s <= now]
            coming = [r for r in coming if r.submitted_s > now]
            line.sort(key=lambda r: (r.due_s, r.index))
            if not line or len(held) == slots:
                break
            room = slots - len(held)
            for r in line[:room]:
                now += BOTH[r.key].text_encode_s
                held.append(r)
            line = line[room:]
        batch = next_batch(
            held,  # type: ignore[arg-type]
            lambda key: max_lanes,
            now,
            lambda key, lanes: BOTH[key].step_s[lanes],  # type: ignore[index]
        )
        seconds = BOTH[batch[0].key]  # type: ignore[index]
        now += seconds.step_s[sum(r.lanes for r in batch)]
        for r in batch:
            r.steps_left -= 1
        for r in sorted((r for r in held if not r.steps_left), key=lambda r: (r.due_s, r.index)):
            now += seconds.decode_s
            done[r.index] = now
            held.remove(r)
    return done


def simulated(rows: list[Stepped], slots: int, max_lanes: int) -> dict[int, float]:
    node = BatchingNode(slots, max_lanes, BOTH, drop_late=False)
    done: dict[int, float] = {}
    coming = [
        (
            r.submitted_s,
            Row(
                r.index,
                Task(str(r.index), (), 0.0),
                0,
                r.key,
                r.lanes,
                0.0,
                r.steps_left,
                r.due_s,
                1.0,
            ),
        )
        for r in rows
    ]
    while coming or node.next_s < math.inf:
        if coming and coming[0][0] <= node.next_s:
            at_s, row = coming.pop(0)
            node.add(row, at_s)
        else:
            now = node.next_s
            for row in node.advance(now)[0]:
                done[row.index] = now
    return done


@pytest.mark.parametrize("gap_s", [0.0, 1.0, 4.0])
def test_rows_of_one_variant_end_as_if_stepped_one_forward_at_a_time(gap_s: float) -> None:
    for seed in range(60):
        rows, slots, lanes = rows_of(seed, ["base"], gap_s)
        found = simulated(rows, slots, lanes)
        expected = one_forward_at_a_time(rows, slots, lanes)
        assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("gap_s", [0.0, 1.0])
def test_variants_take_turns_as_the_engine_lets_them(gap_s: float) -> None:
    for seed in range(60):
        rows, slots, lanes = rows_of(seed, ["base", "small"], gap_s)
        found = simulated(rows, slots, lanes)
        expected = one_forward_at_a_time(rows, slots, lanes)
        assert found == pytest.approx(expected, abs=1e-6)


def test_a_static_set_of_rows_ends_when_the_forecast_says() -> None:
    for seed in range(60):
        rows, slots, lanes = rows_of(seed, ["base"], 0.0)
        rows.sort(key=lambda r: (r.due_s, r.index))
        jobs = [
            Job(
                key=(r.key, 64, 64),
                lanes=r.lanes,
                steps_left=r.steps_left,
                # The first row to come starts at once, whoever is due before it.
                holds_slot=r.index == 0,
                step_s=BASE.step_s,
                area=1.0,
                text_encode_s=BASE.text_encode_s if r.index else 0.0,
                decode_s=BASE.decode_s,
            )
            for r in rows
        ]
        forecast = finish_times(jobs, slots, lanes)
        found = simulated(sorted(rows, key=lambda r: r.index), slots, lanes)
        for r, expected in zip(rows, forecast, strict=True):
            # Its text is encoded before the others come.
            assert found[r.index] == pytest.approx(expected + BASE.text_encode_s, abs=1e-5)


BATCHED = Batching((2, 4, 8), (1.0, 1.5, 2.5))


def test_two_rows_share_their_steps_in_a_whole_run() -> None:
    profile = published_profile(BATCHED)
    setting = SimSetting(nodes=1)
    outcome = simulate(trace_of([0.0, 0.0]), same_prompts(profile), profile, FixedLevel(), setting)
    assert outcome.finish_s.tolist() == pytest.approx([6.3, 6.3])
    # The second comes within the sixth step of the first: five steps alone, then 45 together.
    later = simulate(trace_of([0.0, 0.45]), same_prompts(profile), profile, FixedLevel(), setting)
    both_s = 6 * 0.084 + 44 * 0.126
    assert later.start_s.tolist() == pytest.approx([0.0, 6 * 0.084])
    assert later.finish_s.tolist() == pytest.approx([both_s, both_s + 6 * 0.084])


def test_batched_schedules_keep_what_any_schedule_must() -> None:
    profile = published_profile(BATCHED)
    prompts = same_prompts(profile)
    rng = np.random.default_rng(1)
    trace = trace_of(np.cumsum(rng.exponential(0.4, 1500)))
    outcome = simulate(trace, prompts, profile, BestOnTime(), SimSetting(nodes=4))
    check(outcome, trace, prompts, profile, profile.slo_s, slots=4)
    took = outcome.finish_s - outcome.start_s
    alone = np.array([level.seconds for level in profile.levels])[outcome.level]
    assert (took[outcome.answered] >= alone[outcome.answered] - 1e-6).all()
