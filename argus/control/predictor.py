"""How good a prompt's picture is expected to be at each level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from argus.types import Level

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class PromptView:
    """What is known of a prompt when its level is chosen.

    Attributes:
        text: as it came.
        embedding: (dimension,), of length 1, by the cache's embedder; None where there is none.
        similarity: cosine to the nearest cached prompt whose state could be used; None where
            there is none.
    """

    text: str
    embedding: NDArray[np.float32] | None = None
    similarity: float | None = None


@dataclass(frozen=True, slots=True)
class Expectation:
    """What is expected of one picture.

    Attributes:
        quality: expected relative quality, 1 = the reference level.
        lower: relative quality that the picture has at least, with the predictor's coverage.
        fitted: `lower` as it was before live pictures widened it; None where none are looked at.
    """

    quality: float
    lower: float
    fitted: float | None = None


class QualityPredictor(Protocol):
    """Predicts relative quality per prompt and level."""

    @property
    def embedder(self) -> str:
        """Name of the embedder whose vectors it can use; empty where it needs none."""
        ...

    @property
    def variants(self) -> frozenset[str]:
        """Variants of which it knows more than the levels' means."""
        ...

    def predict(
        self, prompts: Sequence[PromptView], levels: Sequence[Level]
    ) -> tuple[tuple[Expectation, ...], ...]:
        """Return what to expect of each of `prompts` at each of `levels`, prompt by prompt."""
        ...


class LevelMeans:
    """Predicts for every prompt the mean quality that was measured for the level.

    Of the spread around the mean nothing is known: the lower bound is the mean, too, and no
    coverage is claimed for it.
    """

    embedder = ""
    variants: frozenset[str] = frozenset()

    def predict(
        self, prompts: Sequence[PromptView], levels: Sequence[Level]
    ) -> tuple[tuple[Expectation, ...], ...]:
        """Return the levels' own qualities; the prompts play no part."""
        row = tuple(Expectation(level.quality, level.quality) for level in levels)
        return (row,) * len(prompts)
