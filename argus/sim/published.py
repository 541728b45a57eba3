"""The published setting: SDXL's ladder of skipped steps (Argus, arXiv 2511.06724)."""

from __future__ import annotations

from argus.sim.prompts import PUBLISHED_QUALITIES, draw_prompts
from argus.sim.types import Batching, PromptTable, SimLevel, SimProfile

REFERENCE_S = 4.2
STEPS = 50
SLO_S = 3 * REFERENCE_S
"""The value is not published; three times the reference latency agrees with what is."""


def published_profile(batching: Batching | None = None) -> SimProfile:
    """Return levels that skip 0, 5, … 25 of 50 steps: no more than the steps takes time.

    Args:
        batching: None: rows run one after the other.
    """
    levels = tuple(
        SimLevel(
            name=f"skip-{skip}",
            variant="sdxl",
            skip=skip,
            seconds=REFERENCE_S * (STEPS - skip) / STEPS,
            quality=quality,
            forwards=STEPS - skip,
        )
        for skip, quality in zip(range(0, 30, 5), PUBLISHED_QUALITIES, strict=True)
    )
    return SimProfile(levels, SLO_S, batching or Batching())


def modelled_prompts(
    profile: SimProfile, count: int, seed: int, accuracy: float = 0.85
) -> PromptTable:
    """Return drawn prompts whose means are the profile's qualities; see `argus.sim.prompts`."""
    drawn = draw_prompts(
        count, seed, accuracy=accuracy, qualities=[level.quality for level in profile.levels]
    )
    return PromptTable.numbered(drawn.similarity, drawn.quality, drawn.predicted)
