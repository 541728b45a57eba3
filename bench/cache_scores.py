"""How good pictures are that continue a cached state, and what similarity makes harmless."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
HARMLESS = 0.01
"""Mean loss of the share of stated facts that hold, above which a band was harmed."""
FEWEST = 5
"""Pairs that a band must have to say anything."""


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


def bands(similarity: NDArray[np.float64]) -> list[tuple[str, NDArray[np.bool_]]]:
    """Return name and members of each band of similarity that has any."""
    found = []
    for low, high in zip(BANDS, BANDS[1:], strict=False):
        inside = (similarity > low) & (similarity <= high)
        name = f"above {low:g}" if high > 1 else f"{low:g} to {high:g}"
        if low < 0:
            name = f"up to {high:g}"
        if inside.any():
            found.append((name, inside))
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


def fit(similarity: NDArray[np.float64], scores: Mapping[int, Scores]) -> list[tuple[float, int]]:
    """Return (similarity, K): above the first the second did no harm, both ascending.

    For each K the bands are gone through from the most similar down, until one in which facts
    were lost against K = 0 by more than HARMLESS on average, or that has fewer pairs than FEWEST;
    its upper edge is the threshold. A K without any harmless band has none, and neither has one
    that a larger K makes superfluous.
    """
    lowest: dict[int, float] = {}
    for k in [k for k in scores if k]:
        loss = scores[0].facts - scores[k].facts
        for low, high in reversed(list(zip(BANDS, BANDS[1:], strict=False))):
            inside = (similarity > low) & (similarity <= high)
            if inside.sum() < FEWEST or loss[inside].mean() > HARMLESS:
                break
            lowest[k] = max(low, 0.01)
    # A larger K cannot be safer than a smaller one: where it looks so, that is noise.
    found: list[tuple[float, int]] = []
    least = 0.0
    for k in [k for k in scores if k]:
        least = max(least, lowest.get(k, 1.0))
        if least == 1.0:
            break
        if found and found[-1][0] == least:
            found.pop()
        found.append((least, k))
    return found
