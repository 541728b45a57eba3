"""Expected qualities against prompts that the table has not seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from argus.control.recalibration import Recalibration
from argus.errors import InvalidArgumentError
from argus.sim.prompts import draw_prompts
from argus.types import Level
from tests.unit.control.deciding import LADDER, offer

NAMES = [f"k{i}" for i in range(6)]
OFFERS = [offer(name, 1.0) for name in NAMES]


def test_expectations_of_new_prompts_are_right_on_average_and_nearer_than_predictions() -> None:
    scored, new = draw_prompts(4000, 1), draw_prompts(4000, 2)
    recalibrate = Recalibration(NAMES, scored.predicted, scored.quality)
    expected = np.array(
        [
            recalibrate([replace(o, quality=q) for o, q in zip(OFFERS, row, strict=True)])
            for row in new.predicted.tolist()
        ]
    )
    for guessed in range(6):
        own = new.guessed == guessed
        off = (expected - new.quality)[own].mean(axis=0)
        assert np.abs(off).max() < 0.01
    error, before = ((x - new.quality) ** 2 for x in (expected, new.predicted))
    assert error.mean() < before.mean()
    assert expected[:, 0] == pytest.approx(1.0, abs=1e-9), "the whole run is what it is"


def test_without_pairs_of_a_class_and_for_unknown_levels_predictions_are_trusted() -> None:
    sure = np.ones((50, 6))
    recalibrate = Recalibration(NAMES, sure, sure)
    falling = [replace(o, quality=1.0 - 0.1 * i) for i, o in enumerate(OFFERS)]
    assert recalibrate(falling) == tuple(o.quality for o in falling)
    other = replace(falling[3], level=Level("other", "base", 1.0, 0.7))
    assert recalibrate([falling[0], other]) == (1.0, other.quality)
    assert recalibrate(LADDER) == tuple(o.quality for o in LADDER)


@pytest.mark.parametrize(
    ("predicted", "true"),
    [(np.ones((2, 6)), np.ones((3, 6))), (np.ones((2, 5)), np.ones((2, 5))), (np.ones(6),) * 2],
)
def test_pairs_that_do_not_fit_are_refused(predicted: np.ndarray, true: np.ndarray) -> None:
    with pytest.raises(InvalidArgumentError):
        Recalibration(NAMES, predicted, true)
