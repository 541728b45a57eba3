"""The ladder: which levels exist, best first, and what each is expected to be worth."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from argus.control.fields import Fields
from argus.control.reuse import PUBLISHED, SimilarityThresholds
from argus.errors import ConfigError, InvalidArgumentError, NotFoundError, UnavailableError
from argus.types import Level, VariantInfo

_MAX_QUALITY = 2.0
_MOST_SKIPPED = 0.99
PUBLISHED_SKIPS = {0.1: 0.97046, 0.2: 0.95808, 0.3: 0.94378, 0.4: 0.93235, 0.5: 0.9152}
"""Mean relative quality by share of steps that a cached state stands for, as published for SDXL
(Argus, arXiv 2511.06724): a cold start for variants of which nothing was measured."""


@dataclass(frozen=True, slots=True)
class LevelProfile:
    """Levels as measured for one family, the reference level first, then by falling quality."""

    reference: str
    """Variant whose level with all steps has quality 1."""
    levels: tuple[Level, ...]
    reuse: SimilarityThresholds = PUBLISHED
    """What may be skipped of the family's steps at which similarity of prompts."""

    @property
    def variants(self) -> frozenset[str]:
        """The family's variants."""
        return frozenset(level.variant for level in self.levels)


@dataclass(frozen=True, slots=True)
class Ladder:
    """Every level that can be chosen now.

    `levels` is the main ladder, its reference level first. `others` holds one level for each
    variant outside of it: no quality relative to the reference was measured for those, so each
    is a ladder of its own, reached only by naming it. `reuse` says what may be skipped of the main
    ladder's steps at which similarity.
    """

    levels: tuple[Level, ...]
    others: tuple[Level, ...] = ()
    reuse: SimilarityThresholds = PUBLISHED

    @staticmethod
    def build(
        profile: LevelProfile | None, variants: Sequence[VariantInfo], cached: bool = False
    ) -> Ladder:
        """Return the ladder of `variants`, of which the first is the default.

        Args:
            profile: measured levels, or None.
            variants: that nodes have.
            cached: whether states are cached; variants outside of the profile then get levels that
                skip steps, with the quality published for SDXL.

        The profile applies as soon as one of its variants exists; levels of absent variants are
        left out, the reference level excepted: without it the default would silently change.
        Without a profile each variant has its reference level and, where states are cached, those.
        """
        names = [v.name for v in variants]
        if profile is None or not any(level.variant in names for level in profile.levels):
            first, *others = [_own(v, cached) for v in variants] or [()]
            return Ladder(first, tuple(level for own in others for level in own))
        reference, *rest = profile.levels
        levels = (reference, *(level for level in rest if level.variant in names))
        covered = {level.variant for level in levels}
        uncovered = [_own(v, cached) for v in variants if v.name not in covered]
        own_levels = tuple(level for own in uncovered for level in own)
        return Ladder(levels, own_levels, profile.reuse)

    def thresholds(self, variant: str) -> SimilarityThresholds:
        """Return what may be skipped of a variant's steps at which similarity of prompts."""
        measured = any(level.variant == variant for level in self.levels)
        return self.reuse if measured else PUBLISHED

    @property
    def all(self) -> tuple[Level, ...]:
        """The main ladder, then the other variants' levels."""
        return self.levels + self.others

    @property
    def default_variant(self) -> str:
        """Variant of the reference level; empty when there is no level at all."""
        return self.levels[0].variant if self.levels else ""

    def of_variant(self, variant: str) -> tuple[Level, ...]:
        """Return the levels that run on `variant`, the one with all steps first, then best first.

        Who names a variant and no deadline is served without approximation, even where fewer
        steps were measured to be better.
        """
        own = (level for level in self.all if level.variant == variant)
        return tuple(sorted(own, key=lambda level: not level.is_whole))

    def by_name(self, name: str) -> Level:
        """Return one level.

        Raises:
            NotFoundError: there is no such level.
        """
        found = next((level for level in self.all if level.name == name), None)
        if found is None:
            raise NotFoundError("level", name, [level.name for level in self.all])
        return found

    def visible(self, variant: str, level: str) -> tuple[Level, ...]:
        """Return the levels a request may be made at, the one it is measured against first.

        Args:
            variant: variant named by the request; empty: the main ladder.
            level: level named by the request; empty: any.

        Raises:
            NotFoundError: no such variant or level, or the level is not one of the variant's.
            UnavailableError: no node has joined, so nothing is known of any name.
        """
        if not self.all:
            raise UnavailableError("no node is connected yet")
        seen = self.of_variant(variant) if variant else self.levels
        if variant and not seen:
            raise NotFoundError("variant", variant, dict.fromkeys(x.variant for x in self.all))
        if not level:
            return seen
        pinned = self.by_name(level)
        if variant and pinned not in seen:
            raise NotFoundError("level", level, [x.name for x in seen])
        if pinned.skip_fraction:
            # Where no state is near enough every step is run.
            return (pinned, *(x for x in self.of_variant(pinned.variant)[:1] if x.is_whole))
        return (pinned,)


def _own(variant: VariantInfo, cached: bool) -> tuple[Level, ...]:
    """Return the levels of a variant of which nothing was measured."""
    name = variant.name
    reference = Level(name=f"{name}-reference", variant=name, steps_fraction=1.0, quality=1.0)
    if not cached or not variant.weights:
        return (reference,)
    skips = (
        Level(f"{name}-skip-{share:.0%}".rstrip("%"), name, 1.0, quality, share)
        for share, quality in PUBLISHED_SKIPS.items()
    )
    return (reference, *skips)


def parse_profile(text: str, source: str) -> LevelProfile:
    """Return the profile written in `text`, a level file (JSON).

    The form is `{"reference": {"variant": V}, "levels": [{"name", "variant", "steps_fraction",
    "quality", "measured"}, …]}`, where `measured` says how and when the quality was measured. A
    level that continues a cached state also states `skip_fraction`, the share of the steps that
    the state stands for; `"reuse": {"similarities": [...], "fractions": [...], "measured": …}` says
    above which similarity of prompts which share does no harm, in place of the published figures.

    Args:
        text: the file's content.
        source: what to call it in messages.

    Raises:
        ConfigError: names the source and the field that is wrong.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{source}: not JSON: {error}") from error
    fields = Fields(source, "", data, ("reference", "levels", "reuse"))
    reference = Fields(source, "reference", fields.value("reference"), ("variant",))
    variant = reference.text("variant")
    rows = fields.value("levels")
    if not isinstance(rows, list) or not rows:
        raise ConfigError(f"{source}: levels: a list with at least one level is needed")
    levels = [_parse_level(source, i, row) for i, row in enumerate(rows)]
    _check_unique(source, levels)
    reuse = _parse_reuse(source, data["reuse"]) if "reuse" in data else PUBLISHED
    return LevelProfile(variant, _sorted(source, variant, levels), reuse)


def _parse_reuse(source: str, data: Any) -> SimilarityThresholds:
    fields = Fields(source, "reuse", data, ("similarities", "fractions", "measured"))
    fields.text("measured")
    similarities, fractions = fields.numbers("similarities"), fields.numbers("fractions")
    try:
        return SimilarityThresholds(similarities, fractions)
    except InvalidArgumentError as error:
        raise ConfigError(f"{source}: reuse: {error}") from error


def _parse_level(source: str, index: int, row: Any) -> Level:
    known = ("name", "variant", "steps_fraction", "skip_fraction", "quality", "measured")
    fields = Fields(source, f"levels[{index}]", row, known)
    fields.text("measured")
    return Level(
        name=fields.text("name"),
        variant=fields.text("variant"),
        steps_fraction=fields.number("steps_fraction", 1.0),
        quality=fields.number("quality", _MAX_QUALITY),
        skip_fraction=(
            fields.number("skip_fraction", _MOST_SKIPPED) if "skip_fraction" in row else 0.0
        ),
    )


def _check_unique(source: str, levels: Iterable[Level]) -> None:
    seen: set[str] = set()
    for index, level in enumerate(levels):
        if level.name in seen:
            raise ConfigError(f"{source}: levels[{index}].name: {level.name!r} is used twice")
        seen.add(level.name)


def _sorted(source: str, variant: str, levels: list[Level]) -> tuple[Level, ...]:
    whole = [x for x in levels if x.variant == variant and x.is_whole]
    if not whole:
        raise ConfigError(
            f"{source}: levels: one of variant {variant!r} with steps_fraction 1 is needed, "
            "the reference level"
        )
    reference = whole[0]
    if reference.quality != 1.0:
        raise ConfigError(
            f"{source}: levels[{levels.index(reference)}].quality: the reference level's is 1 "
            f"by definition, not {reference.quality}"
        )
    rest = [x for x in levels if x is not reference]
    rest.sort(key=lambda level: (-level.quality, level.steps_fraction))
    return (reference, *rest)
