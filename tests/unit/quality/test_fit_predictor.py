"""What a fitted predictor says of prompts it knows, and of those it does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from argus.control.predictor import Expectation, LevelMeans, PromptView
from argus.quality.fit.data import TEST, TRAIN
from argus.types import Level
from tests.unit.quality.fitting import quick_fit, truth
from tests.unit.quality.synthetic import DIMENSION, LEVELS

PREDICTOR = quick_fit().predictor
KNOWN = truth().data.split(TRAIN).prompts[0]
NAMES = [level.name for level in LEVELS]
REST = NAMES[1:]


def expect(prompt: PromptView) -> dict[str, Expectation]:
    (row,) = PREDICTOR.predict([prompt], LEVELS)
    return dict(zip(NAMES, row, strict=True))


def test_the_reference_is_one_by_definition() -> None:
    for prompt in (KNOWN, PromptView(""), replace(KNOWN, embedding=None)):
        assert expect(prompt)["base"] == Expectation(1.0, 1.0)


ODD = {
    "empty": "",
    "blank": "  \n\t ",
    "very long": "a red circle and " * 600,
    "one word of 10,000 letters": "x" * 10_000,
    "Cyrillic": "красный круг и синий квадрат",
    "Chinese": "一个红色的圆",
    "Arabic": "دائرة حمراء",
    "emoji": "🟥🔵",
    "combining and surrogate": "e\u0301\ud800\x00",
    "other words": "a photo of an astronaut riding a horse",
}


@pytest.mark.parametrize("text", ODD.values(), ids=list(ODD))
@pytest.mark.parametrize("similarity", [None, 0.2, 1.0])
def test_odd_prompts_get_wide_and_pessimistic_answers(text: str, similarity: float | None) -> None:
    found = expect(PromptView(text, KNOWN.embedding, similarity))
    means = LevelMeans().predict([PromptView(text)], PREDICTOR.levels)[0]
    for name, mean in zip(REST, means[1:], strict=True):
        assert found[name].lower == 0.0
        # So that the safe level wins.
        assert found[name].quality < min(1.0, mean.quality)


def test_a_vector_far_from_all_that_was_learned_from_makes_a_prompt_strange() -> None:
    vector = np.zeros(DIMENSION, np.float32)
    vector[:] = -np.asarray(KNOWN.embedding)
    far = replace(KNOWN, embedding=vector)
    assert {expect(far)[name].lower for name in REST} == {0.0}
    assert expect(far)["small"].quality == PREDICTOR.worst[NAMES.index("small")]
    assert expect(KNOWN)["base-half"].lower > 0


@pytest.mark.parametrize(
    "vector",
    [None, np.zeros(3, np.float32), np.full(DIMENSION, np.nan, np.float32)],
    ids=["none", "another length", "not finite"],
)
def test_without_a_usable_vector_the_means_are_expected_with_their_own_margin(
    vector: np.ndarray | None,
) -> None:
    found = expect(replace(KNOWN, embedding=vector))
    lower = PREDICTOR.bounds.lower_of_means(PREDICTOR.means)
    for i, name in enumerate(NAMES[1:], start=1):
        assert found[name].quality == PREDICTOR.means[i]
        assert found[name].lower <= lower[i]


def test_without_a_neighbour_only_levels_that_continue_a_state_fall_back_to_means() -> None:
    with_one, without = expect(KNOWN), expect(replace(KNOWN, similarity=None))
    for i, level in enumerate(LEVELS):
        if level.skip_fraction:
            assert without[level.name].quality == pytest.approx(PREDICTOR.means[i])
    assert without["small"] == with_one["small"]


def test_answers_do_not_depend_on_who_else_is_asked_about() -> None:
    prompts = [*truth().data.split(TEST).prompts[:9], PromptView(""), PromptView("a red circle")]
    together = PREDICTOR.predict(prompts, LEVELS)
    for prompt, row in zip(prompts, together, strict=True):
        (alone,) = PREDICTOR.predict([prompt], LEVELS)
        for one, other in zip(alone, row, strict=True):
            assert (one.quality, one.lower) == pytest.approx((other.quality, other.lower))
    assert PREDICTOR.predict([], LEVELS) == ()


def test_levels_are_answered_in_the_order_asked() -> None:
    (row,) = PREDICTOR.predict([KNOWN], LEVELS[::-1])
    assert list(row[::-1]) == list(expect(KNOWN).values())


def test_a_level_it_does_not_know_gets_its_mean_and_no_bound() -> None:
    new = Level("base-third", "base", 0.33, 0.97)
    moved = replace(LEVELS[2], steps_fraction=0.2)  # the name of a known one, but another place
    (row,) = PREDICTOR.predict([KNOWN], [LEVELS[0], new, moved])
    assert row[1:] == (Expectation(0.97, 0.0), Expectation(0.9, 0.0))


def test_a_ladder_of_which_it_knows_nothing_gets_means_alone() -> None:
    other = [
        Level("other-reference", "other", 1.0, 1.0),
        Level("other-skip", "other", 1, 0.97, 0.1),
    ]
    assert PREDICTOR.predict([KNOWN], other) == LevelMeans().predict([KNOWN], other)


@pytest.mark.parametrize("similarity", [0.5, 0.8, 0.99, 1.0])
def test_skipping_more_is_never_predicted_to_be_better(similarity: float) -> None:
    for prompt in truth().data.split(TEST).prompts[:20]:
        found = expect(replace(prompt, similarity=similarity))
        chain = [found[name] for name in ("base", "base-skip-10", "base-skip-30", "base-skip-50")]
        for more, less in zip(chain, chain[1:], strict=False):
            assert more.quality >= less.quality
            assert more.lower >= less.lower
