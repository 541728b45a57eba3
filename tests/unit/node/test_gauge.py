"""Seconds and bytes are those of the work that was done."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from argus.node import memory
from argus.node.gauge import FEWEST_RUNS, MOST_RUNS, Gauge, runs
from argus.node.memory import NoMeter, ResidentMeter, open_meter

CPU = torch.device("cpu")
MIB = 2**20
SIZE = 64 * MIB
NOISE = 4 * MIB


def touch() -> torch.Tensor:
    return torch.ones(SIZE, dtype=torch.uint8)


@pytest.fixture
def resident() -> ResidentMeter:
    meter = open_meter(CPU)
    if not isinstance(meter, ResidentMeter):
        pytest.skip(meter.how)
    return meter


def test_memory_that_is_kept_is_told_and_memory_that_is_freed_is_not(
    resident: ResidentMeter,
) -> None:
    kept: list[torch.Tensor] = []
    assert resident.held_after(lambda: kept.append(touch())) == pytest.approx(SIZE, abs=NOISE)
    freed = resident.held_after(touch)
    assert freed is None or freed < NOISE


def test_the_peak_is_that_of_this_work_and_not_of_earlier_work(resident: ResidentMeter) -> None:
    assert resident.peak_of(lambda: [touch(), touch()]) == pytest.approx(2 * SIZE, abs=NOISE)
    assert resident.peak_of(touch) == pytest.approx(SIZE, abs=NOISE)
    least = resident.peak_of(lambda: None)
    assert least is not None
    assert least < NOISE


def test_a_system_that_does_not_tell_is_not_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_CLEAR_REFS", Path("/nowhere/clear_refs"))
    meter = open_meter(CPU)
    assert isinstance(meter, NoMeter)
    assert meter.how.startswith("not measured: ")
    assert "/nowhere/clear_refs" in meter.how
    done: list[int] = []
    assert meter.held_after(lambda: done.append(1)) is None
    assert done == [1], "the work itself is wanted"
    assert meter.peak_of(lambda: done.append(2)) is None


def test_short_work_is_timed_often_and_long_work_once() -> None:
    assert (runs(1e-9), runs(0.05), runs(0.01), runs(2.0)) == (MOST_RUNS, FEWEST_RUNS, 10, 1)
    done: list[int] = []
    assert Gauge(CPU).best_s(lambda: done.append(1)) > 0
    assert len(done) == 1 + MOST_RUNS
