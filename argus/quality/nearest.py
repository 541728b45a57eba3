"""Which neighbour a prompt is nearest to, as the cluster's index finds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from argus.cache.embedder import Embedder
from argus.quality.prompts import Prompt


@dataclass(frozen=True, slots=True)
class Found:
    """A neighbour and how near it is, as a cosine."""

    id: str
    similarity: float


class Nearest:
    """Finds the nearest neighbour by comparing with every one.

    Args:
        embedder: the one the cluster's cache uses.
        neighbours: what is cached; at least one.
        prompts: that will be asked for.
    """

    def __init__(
        self, embedder: Embedder, neighbours: Sequence[Prompt], prompts: Sequence[Prompt]
    ) -> None:
        self.embedder = embedder.name
        texts = list(dict.fromkeys(p.text for p in prompts))
        cosines = embedder.embed(texts) @ embedder.embed([n.text for n in neighbours]).T
        best = cosines.argmax(axis=1)
        self._found = {
            text: Found(neighbours[k].id, float(cosines[i, k]))
            for i, (text, k) in enumerate(zip(texts, best, strict=True))
        }

    def of(self, text: str) -> Found:
        """Return the nearest neighbour of one of the prompts."""
        return self._found[text]
