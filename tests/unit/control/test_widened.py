"""A margin on a fitted predictor's bounds."""

from __future__ import annotations

import numpy as np
import pytest

from argus.control.learned.bounds import Bounds
from argus.control.learned.domain import Domain
from argus.control.learned.features import Features, Lexicon
from argus.control.learned.fitted import FittedPredictor
from argus.control.learned.models import Means
from argus.control.levels import Ladder
from argus.control.offers import make_offers
from argus.control.predictor import Expectation, PromptView
from argus.control.widened import Widened
from argus.errors import InvalidArgumentError
from argus.types import ImageRequest, Level
from tests.unit.control.build import variant

LEVELS = (
    Level("base", "base", 1.0, 1.0),
    Level("base-half", "base", 0.5, 1.0),
    Level("base-tenth", "base", 0.1, 0.8),
)
UNKNOWN = Level("base-third", "base", 1 / 3, 0.9)
PROMPT = PromptView("a red circle")


def fitted() -> FittedPredictor:
    """A predictor that expects the levels' means, with bounds of 0.9 and 0.6."""
    means = np.array([level.quality for level in LEVELS])
    words = frozenset({"a", "red", "circle"})
    return FittedPredictor(
        profile="0123456789abcdef",
        embedder="",
        dimension=0,
        coverage=0.9,
        features=Features(Lexicon((), {}, words), None, LEVELS),
        domain=Domain(100, 0.5, 0.0, None),
        model=Means(means),
        bounds=Bounds(
            np.array([0.0]), np.array([1.0]), np.array([0.0, 0.1, 0.2]), np.array([0.0, 0.1, 0.2])
        ),
        worst=np.array([1.0, 0.5, 0.3]),
        chains=(),
    )


def test_a_margin_is_taken_off_the_bounds_and_off_nothing_else() -> None:
    margin = 0.0
    widened = Widened(fitted(), lambda: margin)
    (plain,) = fitted().predict([PROMPT], (*LEVELS, UNKNOWN))
    assert [e.lower for e in plain] == pytest.approx([1.0, 0.9, 0.6, 0.0])
    expected = {0.0: [1, 0.9, 0.6, 0], 0.25: [1, 0.65, 0.35, 0], 0.7: [1, 0.2, 0, 0]}
    for taken, lower in expected.items():
        margin = taken
        (row,) = widened.predict([PROMPT], (*LEVELS, UNKNOWN))
        assert [e.lower for e in row] == pytest.approx(lower)
        assert [e.quality for e in row] == [e.quality for e in plain]
        # What was fitted is still told, so that the watch can judge it without its own margin.
        assert [e.fitted for e in row] == [None, plain[1].lower, plain[2].lower, None]
    assert (widened.embedder, widened.variants) == ("", fitted().variants)


def test_levels_of_which_only_the_means_are_known_are_left_alone() -> None:
    other = (Level("x", "other", 1.0, 1.0), Level("x-half", "other", 0.5, 0.9))
    (row,) = Widened(fitted(), lambda: 0.5).predict([PROMPT], other)
    assert row == (Expectation(1.0, 1.0), Expectation(0.9, 0.9))


def test_a_request_with_min_quality_gets_no_level_whose_widened_bound_is_below() -> None:
    request = ImageRequest("r", PROMPT.text, deadline_s=10.0, min_quality=0.85)
    ladder, variants = Ladder(LEVELS), {"base": variant()}

    def names(margin: float, request: ImageRequest = request) -> list[str]:
        offers = make_offers(request, ladder, variants, Widened(fitted(), lambda: margin))
        return [offer.level.name for offer in offers]

    assert names(0.0) == ["base", "base-half"]
    assert names(0.1) == ["base"]
    pinned = ImageRequest("r", PROMPT.text, level="base-half", min_quality=0.85)
    assert names(0.0, pinned) == ["base-half"]
    with pytest.raises(InvalidArgumentError, match="min_quality"):
        names(0.1, pinned)
