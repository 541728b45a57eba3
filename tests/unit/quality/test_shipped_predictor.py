"""The predictor beside the bundled family belongs to the profile beside it, and to its ladder."""

from __future__ import annotations

import pytest

from argus.config import CacheConfig, CoordinatorConfig
from argus.control.learned.fitted import FittedPredictor
from argus.control.predictor import PromptView
from argus.coordinator.embedder import open_embedder
from argus.coordinator.named import load_profile
from argus.coordinator.predictors import load_predictor
from argus.models import bundled_dir, bundled_variants
from argus.quality.matrix import ScoreMatrix

pytestmark = pytest.mark.skipif(not bundled_variants(), reason="the bundled weights are not there")


@pytest.fixture(scope="module")
def predictor() -> FittedPredictor:
    found = load_predictor(CoordinatorConfig())
    assert isinstance(found, FittedPredictor)
    return found


def test_it_was_fitted_to_the_profile_that_ships(predictor: FittedPredictor) -> None:
    matrix = ScoreMatrix.read(bundled_dir() / "profile" / "scores.parquet")
    assert predictor.profile == matrix.fingerprint()
    assert len(matrix.prompts.ids) >= 600


def test_it_knows_every_level_of_the_ladder_that_ships(predictor: FittedPredictor) -> None:
    ladder = load_profile(CoordinatorConfig())
    assert ladder is not None
    assert [level.name for level in ladder.levels if not predictor.knows(level)] == []


def test_prompts_of_the_world_get_bounds_and_others_get_none(predictor: FittedPredictor) -> None:
    embedder = open_embedder(CacheConfig())
    assert embedder.name == predictor.embedder
    texts = [
        "a large red circle on a white background",
        "a photo of a horse",
        "красный круг",
        "x" * 10_000,
    ]
    views = [
        PromptView(text, vector, 0.9)
        for text, vector in zip(texts, embedder.embed(texts), strict=True)
    ]
    views.append(PromptView("", None, 0.9))
    known, *strange = predictor.predict(views, predictor.levels)
    names = [level.name for level in predictor.levels]
    assert known[names.index("base-half")].lower > 0.8
    for row in strange:
        assert {expectation.lower for expectation in row[1:]} == {0.0}
        # Whatever the others are worth, nothing is expected to be better than the reference.
        assert max(row, key=lambda expectation: expectation.quality) is row[0]
