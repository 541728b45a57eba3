"""profile.json: a ladder with what its levels cost, read and written. docs/simulator.md has it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from argus.control.fields import Fields
from argus.errors import ConfigError, InvalidArgumentError
from argus.sim.files import MAX_QUALITY
from argus.sim.types import Batching, SimLevel, SimProfile, VariantTimes

REFERENCE_STEPS = 50
"""Steps of a level that skips none and whose `forwards` are not stated."""


def parse_profile(text: str, source: str) -> SimProfile:
    """Return the profile in a file's content.

    Beside the fields of the format a level may state its `forwards`; else K of 50 steps are
    skipped, and a level without a skip runs as many as its seconds are of the variant's slowest.
    `variants` may hold `text_encode_s`, `decode_s` and `load_s` by the name of the variant.

    Args:
        text: the content.
        source: what to call the file in messages.

    Raises:
        ConfigError: names the source and the field that is wrong.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{source}: not JSON: {error}") from error
    fields = Fields(source, "", data, ("levels", "batching", "slo_s", "variants"))
    rows = fields.inners("levels", ("name", "variant", "skip", "seconds", "quality", "forwards"))
    slowest: dict[str, float] = {}
    for row in rows:
        variant = row.text("variant")
        slowest[variant] = max(slowest.get(variant, 0.0), row.number("seconds"))
    levels = tuple(_level(row, slowest[row.text("variant")]) for row in rows)
    batching = _batching(fields, source) if "batching" in data else Batching()
    variants = _variants(fields, {x.variant for x in levels}) if "variants" in data else {}
    try:
        return SimProfile(levels, fields.number("slo_s"), batching, variants)
    except InvalidArgumentError as error:
        raise ConfigError(f"{source}: {error}") from error


def dump_profile(profile: SimProfile) -> str:
    """Return the file's content for a profile."""
    levels = [
        {
            "name": level.name,
            "variant": level.variant,
            "skip": level.skip,
            "seconds": level.seconds,
            "quality": level.quality,
            "forwards": level.forwards,
        }
        for level in profile.levels
    ]
    batching = {
        "lanes": list(profile.batching.lanes),
        "seconds_scale": list(profile.batching.seconds_scale),
    }
    data: dict[str, Any] = {"levels": levels, "batching": batching, "slo_s": profile.slo_s}
    if profile.variants:
        data["variants"] = {
            name: {
                "text_encode_s": times.text_encode_s,
                "decode_s": times.decode_s,
                "load_s": times.load_s,
            }
            for name, times in profile.variants.items()
        }
    return json.dumps(data, indent=2) + "\n"


def _level(row: Fields, slowest_s: float) -> SimLevel:
    seconds, skip = row.number("seconds"), row.whole("skip", 0)
    if row.has("forwards"):
        forwards = row.whole("forwards")
    elif skip:
        forwards = REFERENCE_STEPS - skip
    else:
        forwards = max(1, round(REFERENCE_STEPS * seconds / slowest_s))
    if forwards < 1:
        raise ConfigError(f"{row.at('skip')}: must be below {REFERENCE_STEPS}, not {skip}")
    return SimLevel(
        name=row.text("name"),
        variant=row.text("variant"),
        skip=skip,
        seconds=seconds,
        quality=row.number("quality", MAX_QUALITY),
        forwards=forwards,
    )


def _batching(fields: Fields, source: str) -> Batching:
    inner = fields.inner("batching", ("lanes", "seconds_scale"))
    lanes, scale = inner.wholes("lanes"), inner.numbers("seconds_scale")
    try:
        return Batching(lanes, scale)
    except InvalidArgumentError as error:
        raise ConfigError(f"{source}: {error}") from error


def _variants(fields: Fields, known: set[str]) -> Mapping[str, VariantTimes]:
    inner = fields.inner("variants", sorted(known))
    return {name: _times(inner, name) for name in sorted(known) if inner.has(name)}


def _times(fields: Fields, name: str) -> VariantTimes:
    inner = fields.inner(name, ("text_encode_s", "decode_s", "load_s"))
    return VariantTimes(
        inner.number_or_0("text_encode_s"),
        inner.number_or_0("decode_s"),
        inner.number_or_0("load_s"),
    )
