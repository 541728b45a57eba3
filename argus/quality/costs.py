"""What a picture costs at each level, from a cost profile."""

from __future__ import annotations

from collections.abc import Sequence

from argus.control.profile import CostProfile, VariantProfile
from argus.errors import ConfigError
from argus.types import Level, forwards

GUIDED = 2
"""Lanes of a row with classifier-free guidance."""


def image_seconds(
    costs: CostProfile, levels: Sequence[Level], reference_steps: int, sampler: str = ""
) -> tuple[float, ...]:
    """Return the device seconds of one picture at each level, in full batches, guided.

    Args:
        costs: measured, of every variant of the levels.
        levels: of the ladder.
        reference_steps: of the reference level.
        sampler: whose forwards a step takes.

    Raises:
        ConfigError: the profile lacks a variant.
    """
    by_name = {variant.name: variant for variant in costs.variants}
    seconds = []
    for level in levels:
        variant = by_name.get(level.variant)
        if variant is None:
            raise ConfigError(f"costs: variants: {level.variant!r} was not measured")
        run = forwards(sampler, level.steps(reference_steps), level.skip(reference_steps))
        seconds.append(_seconds(variant, run))
    return tuple(seconds)


def _seconds(variant: VariantProfile, run: int) -> float:
    size = variant.sizes[0]
    widest = size.steps.lanes[-1]
    rows = max(1, widest // GUIDED)
    return variant.text_encode_s + run * size.steps.step_s(widest) / rows + size.decode_s
