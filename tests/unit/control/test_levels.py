from __future__ import annotations

import json
from typing import Any

import pytest

from argus.control.levels import Ladder, parse_profile
from argus.errors import ConfigError, NotFoundError, UnavailableError
from argus.types import Level
from tests.unit.control.build import variant

BASE, SMALL, OTHER = variant("base"), variant("small"), variant("other")


def row(name: str, **changes: Any) -> dict[str, Any]:
    values = {"variant": "base", "steps_fraction": 1.0, "quality": 1.0, "measured": "by hand"}
    return {"name": name} | values | changes


def file(*rows: Any, reference: Any = None) -> str:
    return json.dumps({"reference": reference or {"variant": "base"}, "levels": list(rows)})


PROFILE = parse_profile(
    file(
        row("base-20", steps_fraction=0.4, quality=0.97),
        row("small-50", variant="small", quality=0.8),
        row("base-50"),
        row("base-25", steps_fraction=0.5, quality=0.98),
    ),
    "levels.json",
)


def test_a_level_file_becomes_a_ladder_with_the_reference_first_and_quality_falling() -> None:
    ladder = Ladder.build(PROFILE, [BASE, SMALL])
    assert [x.name for x in ladder.levels] == ["base-50", "base-25", "base-20", "small-50"]
    assert ladder.others == ()
    assert ladder.default_variant == "base"


def test_without_a_file_each_variant_has_only_its_reference_level() -> None:
    ladder = Ladder.build(None, [SMALL, BASE])
    assert ladder.levels == (Level("small-reference", "small", 1.0, 1.0),)
    assert ladder.others == (Level("base-reference", "base", 1.0, 1.0),)
    assert ladder.visible("", "") == ladder.levels
    assert ladder.visible("base", "") == ladder.others


def test_a_variant_outside_of_the_file_gets_a_ladder_of_its_own() -> None:
    ladder = Ladder.build(PROFILE, [BASE, OTHER])
    assert [x.name for x in ladder.visible("", "")] == ["base-50", "base-25", "base-20"]
    assert [x.name for x in ladder.visible("other", "")] == ["other-reference"]


def test_the_reference_stays_the_default_while_only_a_lesser_variant_is_there() -> None:
    assert Ladder.build(PROFILE, [SMALL]).default_variant == "base"


def test_a_file_about_other_variants_does_not_apply() -> None:
    assert Ladder.build(PROFILE, [OTHER]).levels == (Level("other-reference", "other", 1.0, 1.0),)


def test_an_empty_cluster_has_an_empty_ladder() -> None:
    ladder = Ladder.build(None, [])
    assert ladder.default_variant == ""


def test_a_named_variant_sees_its_own_levels_and_a_named_level_only_itself() -> None:
    ladder = Ladder.build(PROFILE, [BASE, SMALL])
    assert [x.name for x in ladder.visible("small", "")] == ["small-50"]
    assert [x.name for x in ladder.visible("", "base-20")] == ["base-20"]
    assert [x.name for x in ladder.visible("base", "base-20")] == ["base-20"]


@pytest.mark.parametrize(
    ("name", "level", "field", "known"),
    [
        ("bass", "", "variant", ("base", "small")),
        ("", "base-51", "level", ("base-50", "base-25", "base-20", "small-50")),
        ("small", "base-50", "level", ("small-50",)),
    ],
)
def test_unknown_names_are_refused_with_the_known_ones(
    name: str, level: str, field: str, known: tuple[str, ...]
) -> None:
    with pytest.raises(NotFoundError) as caught:
        Ladder.build(PROFILE, [BASE, SMALL]).visible(name, level)
    assert (caught.value.field, caught.value.known) == (field, known)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "f: not JSON"),
        ("[]", "f: the file: an object is needed"),
        ('{"levels": []}', "f: reference: missing"),
        ('{"reference": {"variant": "base"}, "levels": []}', "f: levels: a list"),
        ('{"reference": {"variant": "base"}, "levles": []}', "did you mean 'levels'"),
        (file(row("a"), reference={"variant": 3}), "f: reference.variant: text"),
        (file("a"), "f: levels[0]: an object"),
        (file(row("a", steps_fraction=0)), "f: levels[0].steps_fraction: must be above 0"),
        (file(row("a", steps_fraction=1.5)), "f: levels[0].steps_fraction: must be above 0"),
        (file(row("a"), row("b", quality=True)), "f: levels[1].quality"),
        (file(row("a", measured="")), "f: levels[0].measured: text"),
        (file(row("a"), row("a")), "f: levels[1].name: 'a' is used twice"),
        (file(row("a", steps_fraction=0.5)), "with steps_fraction 1 is needed"),
        (file(row("a", quality=0.9)), "f: levels[0].quality: the reference level's is 1"),
    ],
)
def test_a_wrong_level_file_is_refused_with_the_field_named(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_profile(text, "f")
    assert words in str(caught.value)


def test_before_any_node_has_joined_no_name_is_called_unknown() -> None:
    empty = Ladder.build(None, [])
    for name, level in (("", ""), ("x", ""), ("", "y")):
        with pytest.raises(UnavailableError, match="no node is connected"):
            empty.visible(name, level)
