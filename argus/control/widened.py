"""A fitted predictor whose lower bounds are lowered while live pictures show that they must be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from argus.control.learned.fitted import FittedPredictor
from argus.control.predictor import Expectation, PromptView
from argus.types import Level


class Widened:
    """Takes a margin off every lower bound but the reference level's, and changes nothing else.

    Args:
        predictor: that states the bounds.
        margin: tells the margin of the moment, at least 0; see argus.control.coverage.
    """

    def __init__(self, predictor: FittedPredictor, margin: Callable[[], float]) -> None:
        self._predictor = predictor
        self._margin = margin

    @property
    def embedder(self) -> str:
        """Name of the embedder whose vectors it can use; empty where it needs none."""
        return self._predictor.embedder

    @property
    def variants(self) -> frozenset[str]:
        """Variants of which it knows more than the levels' means."""
        return self._predictor.variants

    def predict(
        self, prompts: Sequence[PromptView], levels: Sequence[Level]
    ) -> tuple[tuple[Expectation, ...], ...]:
        """Return what to expect of each of `prompts` at each of `levels`, prompt by prompt.

        Of levels that the predictor does not know it states no bound that could be wrong.
        """
        margin = self._margin()
        reference = self._predictor.levels[0].name
        bounded = [self._predictor.knows(x) and x.name != reference for x in levels]
        return tuple(
            tuple(
                _lowered(expected, margin) if is_bounded else expected
                for expected, is_bounded in zip(row, bounded, strict=True)
            )
            for row in self._predictor.predict(prompts, levels)
        )


def _lowered(expected: Expectation, margin: float) -> Expectation:
    lower = max(0.0, expected.lower - margin)
    return replace(expected, lower=lower, fitted=expected.lower)
