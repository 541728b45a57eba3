"""The ladder that a profile measures: every level, and every K whatever the similarity."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from argus.control.levels import LevelProfile
from argus.errors import InvalidArgumentError
from argus.types import Level

ANY_SIMILARITY = 1e-6
"""Thresholds so low that every K is harmless to whoever decides; the profile is to find out."""


def ladder_to_measure(profile: LevelProfile, skips: Sequence[float]) -> tuple[Level, ...]:
    """Return the levels of a profile, and those that skip further shares of the reference's steps.

    Args:
        profile: the ladder as it is known so far.
        skips: shares in (0, 1); those that the ladder has already are not added again.

    Raises:
        InvalidArgumentError: a share is out of range.
    """
    reference = profile.levels[0]
    known = {
        level.skip_fraction
        for level in profile.levels
        if level.variant == reference.variant and level.steps_fraction == 1
    }
    for share in skips:
        if not 0 < share < 1:
            raise InvalidArgumentError("skips", f"must be between 0 and 1, not {share:g}")
    added = [
        Level(f"{reference.name}-skip-{share:.0%}".rstrip("%"), reference.variant, 1.0, 1.0, share)
        for share in skips
        if share not in known
    ]
    return (*profile.levels, *added)


def permissive_level_file(levels: Sequence[Level]) -> str:
    """Return a level file in which every level that continues a state may always do so."""
    shares = sorted({level.skip_fraction for level in levels if level.skip_fraction})
    content = {
        "reference": {"variant": levels[0].variant},
        "levels": [
            {
                "name": level.name,
                "variant": level.variant,
                "steps_fraction": level.steps_fraction,
                "quality": level.quality,
                "measured": "not yet: this file is for measuring it",
                **({"skip_fraction": level.skip_fraction} if level.skip_fraction else {}),
            }
            for level in (levels[0], *(replace(x, quality=0.5) for x in levels[1:]))
        ],
    }
    if shares:
        content["reuse"] = {
            "similarities": [ANY_SIMILARITY * (i + 1) for i in range(len(shares))],
            "fractions": shares,
            "measured": "not at all: everything is allowed, to be measured",
        }
    return json.dumps(content, indent=1) + "\n"
