"""How good a prompt's picture is expected to be at each level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from argus.types import Level


class QualityPredictor(Protocol):
    """Predicts relative quality per prompt and level."""

    def predict(self, prompt: str, levels: Sequence[Level]) -> tuple[float, ...]:
        """Return the expected relative quality of `prompt` at each of `levels`, 1 = reference."""
        ...


class LevelMeans:
    """Predicts for every prompt the mean quality that was measured for the level."""

    def predict(self, prompt: str, levels: Sequence[Level]) -> tuple[float, ...]:
        """Return the levels' own qualities; the prompt plays no part."""
        return tuple(level.quality for level in levels)
