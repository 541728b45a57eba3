"""Captions: they parse back to their facts, and the tokenizer takes all of them."""

import random

import pytest

from argus.models.captions import (
    Facts,
    ObjectFact,
    caption_of,
    facts_of,
    parse_caption,
    write_caption,
)
from argus.models.scenes import scene_at
from argus.models.tokenizer import LENGTH, build_tokenizer, words


def test_every_written_caption_parses_back_to_its_facts() -> None:
    for i in range(3000):
        caption, facts = caption_of(scene_at(1, i), random.Random(i))
        assert parse_caption(caption) == facts, caption


def test_full_captions_state_all_that_the_split_is_about() -> None:
    for i in range(300):
        scene = scene_at(1, i, held_out=True)
        facts = facts_of(scene, random.Random(i), full=True)
        said = sorted((o.shape, o.colour) for o in facts.objects)
        assert said == sorted((o.shape, o.colour) for o in scene.objects)
        assert facts.background == scene.background
        assert parse_caption(write_caption(facts, random.Random(i))) == facts


RED_CIRCLE = ObjectFact("circle", "red", None)
BLUE_SQUARE = ObjectFact("square", "blue", None)


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("A red circle.", Facts((RED_CIRCLE,))),
        ("two red circles", Facts((RED_CIRCLE, RED_CIRCLE))),
        ("a photo of a red circle and a blue square", Facts((RED_CIRCLE, BLUE_SQUARE))),
        (
            "a red circle to the left of a blue square on a grey background",
            Facts((RED_CIRCLE, BLUE_SQUARE), "left of", "gray"),
        ),
        ("a big circle", Facts((ObjectFact("circle", None, "large"),))),
        ("an orange shape", Facts((ObjectFact(None, "orange", None),))),
    ],
)
def test_plain_forms_are_read(text: str, facts: Facts) -> None:
    assert parse_caption(text) == facts


@pytest.mark.parametrize(
    "text", ["", "a horse", "a red red circle", "five circles", "a red circle on a teal background"]
)
def test_what_is_not_of_this_world_is_not_read(text: str) -> None:
    assert parse_caption(text) is None


def test_reading_order_turns_relations_round() -> None:
    facts = Facts((RED_CIRCLE, BLUE_SQUARE), "right of")
    assert facts.in_reading_order() == Facts((BLUE_SQUARE, RED_CIRCLE), "left of")


def test_known_words_are_single_tokens() -> None:
    tokenizer = build_tokenizer()
    assert all(len(tokenizer(w)["input_ids"]) == 3 for w in words())


def test_captions_fit_and_pad_to_the_tokenizer_length() -> None:
    tokenizer = build_tokenizer()
    captions = [caption_of(scene_at(2, i), random.Random(i))[0] for i in range(2000)]
    assert max(len(ids) for ids in tokenizer(captions)["input_ids"]) <= LENGTH
    padded = tokenizer(captions[:4], padding="max_length", return_tensors="pt")["input_ids"]
    assert padded.shape == (4, LENGTH)
    assert tokenizer.model_max_length == LENGTH


def test_unknown_text_tokenizes_without_error() -> None:
    tokenizer = build_tokenizer()
    text = "An astronaut, 日本 & a ñandú riding 17 horses!?"
    ids = tokenizer(text, padding="max_length", truncation=True)["input_ids"]
    assert len(ids) == LENGTH
