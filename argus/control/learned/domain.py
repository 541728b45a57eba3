"""Whether a prompt is of the kind that was learned from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from argus.control.learned.features import Lexicon, words_of
from argus.control.predictor import PromptView

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Domain:
    """The prompts that were learned from, and how far off one may be.

    Attributes:
        most_characters: of a prompt that is not too long.
        least_known: share of its words that must be known.
        least_cosine: to the nearest of `embeddings`.
        embeddings: (m, d) of the prompts learned from, of length 1; None where the predictor has
            no use for embeddings.
    """

    most_characters: int
    least_known: float
    least_cosine: float
    embeddings: Floats | None

    def holds(self, prompt: PromptView, lexicon: Lexicon) -> bool:
        """Whether the words of a prompt are those of the domain; its embedding is not looked at."""
        if len(prompt.text) > self.most_characters:
            return False
        words = words_of(prompt.text)
        return bool(words) and lexicon.known_share(words) >= self.least_known

    def near(self, embeddings: Floats) -> NDArray[np.bool_]:
        """Return of (n, d) embeddings whether each is near enough to some that was learned from."""
        if self.embeddings is None:
            return np.ones(len(embeddings), dtype=np.bool_)
        # In float32 a prompt that was learned from may be a little off 1 from itself.
        cosines = (embeddings @ self.embeddings.T).max(axis=1)
        return np.asarray(cosines >= self.least_cosine - 1e-6)
