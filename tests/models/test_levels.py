"""The bundled family's level file is what its measurements say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from argus.control.levels import parse_profile
from argus.control.reuse import PUBLISHED, SimilarityThresholds
from argus.models import bundled_dir
from argus.models.levels import LEVELS, ladder


def report() -> dict[str, Any]:
    results = {
        f"{variant.removeprefix('scenes-')}, {steps} steps": {"all": {"all_facts": 0.9}}
        for _, variant, steps in LEVELS
    }
    return {"prompts": 10, "sampler": "DDIM", "results": results}


def reuse(*levels: dict[str, Any]) -> dict[str, Any]:
    return {
        "variant": "scenes-base",
        "steps": 50,
        "prompts": 216,
        "similarities": [level["above"] for level in levels],
        "fractions": [level["skip_fraction"] for level in levels],
        "levels": list(levels),
    }


def test_the_file_in_the_package_is_made_of_the_measurements_beside_it() -> None:
    paths = ("evaluation.json", "reuse.json", "profile/summary.json")
    measured = [
        json.loads(path.read_text()) if path.is_file() else None
        for path in (bundled_dir() / name for name in paths)
    ]
    assert json.loads((bundled_dir() / "levels.json").read_text()) == ladder(*measured)


def test_what_was_harmless_becomes_levels_and_thresholds() -> None:
    rows = (
        {"skip_fraction": 0.1, "quality": 1.0, "pairs": 200, "above": 0.5},
        {"skip_fraction": 0.3, "quality": 0.98, "pairs": 90, "above": 0.9},
    )
    profile = parse_profile(json.dumps(ladder(report(), reuse(*rows))), "levels.json")
    found = {x.name: (x.skip_fraction, x.quality) for x in profile.levels if x.skip_fraction}
    assert found == {"base-skip-10": (0.1, 1.0), "base-skip-30": (0.3, 0.98)}
    assert profile.reuse == SimilarityThresholds((0.5, 0.9), (0.1, 0.3))


def test_a_profile_says_the_qualities_and_adds_its_levels() -> None:
    names = [*(name for name, _, _ in LEVELS), "base-skip-10", "base-skip-20"]
    levels = [{"name": name, "quality": 1 - 0.01 * i} for i, name in enumerate(names)]
    summary = {"main": "facts", "prompts": 700, "levels": levels}
    near = {"skip_fraction": 0.1, "quality": 0.99, "pairs": 150, "above": 0.8}
    profile = parse_profile(json.dumps(ladder(None, reuse(near), summary)), "levels.json")
    found = {level.name: level.quality for level in profile.levels}
    wanted = {level["name"]: pytest.approx(level["quality"]) for level in levels}
    assert found == wanted | {"base-skip-10": 0.99}
    assert profile.reuse == SimilarityThresholds((0.8,), (0.1,))


@pytest.mark.parametrize("measured", [None, reuse()])
def test_where_nothing_was_harmless_no_level_skips(measured: dict[str, Any] | None) -> None:
    profile = parse_profile(json.dumps(ladder(report(), measured)), "levels.json")
    assert not any(level.skip_fraction for level in profile.levels)
    assert profile.reuse == PUBLISHED
