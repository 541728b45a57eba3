"""The time kept free when tasks are accepted, and what is hopeless."""

from __future__ import annotations

import math
import random

import pytest

from argus.control.margins import Margins
from argus.control.reserve import FORGET_S, MOST, TOLERATED, Reserve


def test_the_share_that_is_given_up_becomes_what_is_tolerated() -> None:
    """A task needs between nothing and half of its fastest level's time beyond what was thought."""
    rng, reserve, given_up = random.Random(3), Reserve(), 0
    tasks = 20_000
    for _ in range(tasks):
        short = rng.uniform(0.0, 0.5) > reserve.share(0.0)
        given_up += short
        reserve.note(short, 0.0)
    assert given_up / tasks == pytest.approx(TOLERATED, rel=0.1)


def test_a_reserve_is_never_negative_nor_longer_than_a_row() -> None:
    reserve = Reserve()
    reserve.note(False, 0.0)
    assert reserve.share(0.0) == 0.0
    for _ in range(100):
        reserve.note(True, 1.0)
    assert reserve.share(1.0) == MOST


def test_a_reserve_is_forgotten() -> None:
    reserve = Reserve()
    for _ in range(100):
        reserve.note(True, 1.0)
    assert reserve.share(1.0 + FORGET_S) == pytest.approx(MOST / math.e)
    reserve.note(False, 1.0 + 20 * FORGET_S)
    assert reserve.share(1.0 + 20 * FORGET_S) == 0.0


def test_half_of_the_rows_of_the_best_kind_take_longer_than_is_typical() -> None:
    margins = Margins()
    assert margins.typical == 1.0
    for n in range(101):
        margins.note("slow", 1.0, 2.0)
        margins.note("less so", 1.0, 1.0 + 0.01 * n)
    assert margins.typical == pytest.approx(1.5, abs=0.05)
    for _ in range(600):
        margins.note("less so", 1.0, 0.5)
    assert margins.typical == 1.0
    again = Margins()
    again.ratios.restore({"slow": [2.0] * 40})
    assert again.typical == 2.0
    again.ratios.restore({})
    assert again.typical == 1.0
