"""How slow steps are, and how long that is believed."""

from __future__ import annotations

import math

import pytest
import torch

from argus.engine.pace import FORGET_S, IDLE_S, MEMORY, MEMORY_S, Pace, StepDone

CPU = torch.device("cpu")


class Seconds:
    """A time that is set."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def step(pace: Pace, clock: Seconds, taken_s: float, predicted_s: float = 1.0) -> None:
    pace.begin()
    clock.now_s += taken_s
    pace.end(CPU, StepDone("base", 2, predicted_s))


def test_slowness_is_a_running_mean_of_steps_that_follow_each_other() -> None:
    clock = Seconds()
    pace = Pace(now=clock)
    expected = 1.0
    for taken_s in (0.2, 0.3, 0.1, 0.2):
        step(pace, clock, taken_s, predicted_s=0.1)
        expected += (1 - math.exp(-0.1 / MEMORY_S)) * (taken_s / 0.1 - expected)
        assert pace.slowness == pytest.approx(expected)


def test_steps_count_by_how_long_they_should_take_but_none_for_too_much() -> None:
    """One of two quick steps takes ten times as long: in all, five and a half times."""
    clock = Seconds()
    pace = Pace(now=clock)
    for _ in range(1000):
        step(pace, clock, 0.1, predicted_s=0.01)
        step(pace, clock, 0.01, predicted_s=0.01)
    assert pace.slowness == pytest.approx(5.5, abs=0.1)
    once = Pace(now=clock)
    step(once, clock, 60.0, predicted_s=30.0)
    assert once.slowness == pytest.approx(1 + MEMORY * (2 - 1))


def test_a_node_that_was_slow_and_gets_no_work_is_thought_sound_again() -> None:
    clock = Seconds()
    pace = Pace(now=clock)
    for _ in range(50):
        step(pace, clock, 0.4, predicted_s=0.1)
    before = pace.slowness
    assert before == pytest.approx(4.0, abs=0.05)
    clock.now_s += IDLE_S
    assert pace.slowness == pytest.approx(before)
    clock.now_s += FORGET_S
    assert pace.slowness == pytest.approx(1 + (before - 1) / 2.718281828)
    clock.now_s += 10 * FORGET_S
    assert pace.slowness == pytest.approx(1.0, abs=0.001)


def test_a_step_after_a_pause_goes_on_from_what_is_left() -> None:
    clock = Seconds()
    pace = Pace(now=clock)
    for _ in range(50):
        step(pace, clock, 0.4, predicted_s=0.1)
    clock.now_s += 20 * FORGET_S
    step(pace, clock, 0.1, predicted_s=0.1)
    assert pace.slowness == pytest.approx(1.0, abs=0.01)


def test_a_long_step_is_not_taken_for_a_pause() -> None:
    clock = Seconds()
    pace = Pace(now=clock)
    for expected in (1.1, 1.19, 1.271):
        step(pace, clock, 20.0, predicted_s=10.0)
        assert pace.slowness == pytest.approx(expected)


def test_a_step_that_failed_is_over_when_the_device_is_idle() -> None:
    clock = Seconds()
    pace = Pace(now=clock)
    for _ in range(50):
        step(pace, clock, 0.4, predicted_s=0.1)
    pace.begin()
    pace.idle()
    clock.now_s += 20 * FORGET_S
    assert pace.slowness == pytest.approx(1.0, abs=0.001)
