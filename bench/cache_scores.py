"""How good pictures are that continue a cached state, by K and by similarity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from cache_prompts import NewPrompt
from numpy.typing import NDArray
from transformers import CLIPModel

from argus.models import SCORER, bundled_dir
from argus.models.scorer import similarities
from argus.models.verifier import verify

BANDS = (-1.0, 0.5, 0.65, 0.7, 0.75, 0.8, 0.85, 0.875, 0.9, 0.95, 0.99, 1.01)
"""Edges of the bands of similarity; the first and the last are open."""


@dataclass(frozen=True, slots=True)
class Scores:
    """One value a picture: whether every stated fact holds, the share that does, the scorer's."""

    all_facts: NDArray[np.float64]
    facts: NDArray[np.float64]
    cosine: NDArray[np.float64]

    def means(self, chosen: NDArray[np.bool_] | None = None) -> dict[str, float]:
        """Return the means over the pictures chosen, all without a choice."""
        picked = slice(None) if chosen is None else chosen
        return {
            "all facts": float(self.all_facts[picked].mean()),
            "mean fact score": float(self.facts[picked].mean()),
            "scorer cosine": float(self.cosine[picked].mean()),
        }


class Judge:
    """Scores pictures of prompts with the family's verifier and scorer."""

    def __init__(self, prompts: Sequence[NewPrompt]) -> None:
        self._prompts = prompts
        self._scorer = CLIPModel.from_pretrained(
            bundled_dir() / SCORER, dtype=torch.float32, local_files_only=True
        )

    def __call__(self, pixels: NDArray[np.uint8]) -> Scores:
        """Return the scores of one picture (height, width, 3) a prompt."""
        verdicts = [verify(x, p.facts) for x, p in zip(pixels, self._prompts, strict=True)]
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        cosine = similarities(self._scorer, images, [p.text for p in self._prompts])
        return Scores(
            np.array([float(verdict.all_facts) for verdict in verdicts]),
            np.array([verdict.score for verdict in verdicts]),
            cosine.diagonal().double().numpy(),
        )


def band_name(low: float, high: float) -> str:
    """Return how tables call a band of similarity."""
    if low < 0:
        return f"up to {high:g}"
    return f"above {low:g}" if high > 1 else f"{low:g} to {high:g}"


def bands(similarity: NDArray[np.float64]) -> list[tuple[str, NDArray[np.bool_]]]:
    """Return name and members of each band of similarity that has any."""
    found = []
    for low, high in pairwise(BANDS):
        inside = (similarity > low) & (similarity <= high)
        if inside.any():
            found.append((band_name(low, high), inside))
    return found


def by_group(
    groups: Sequence[tuple[str, NDArray[np.bool_]]],
    scores: Mapping[int, Scores],
    what: str,
    heading: str,
) -> list[dict[str, Any]]:
    """Return one row a group, with the mean of one score at every K."""
    return [
        {heading: name, "n": int(chosen.sum())}
        | {f"K={k}": round(found.means(chosen)[what], 3) for k, found in scores.items()}
        for name, chosen in groups
    ]
