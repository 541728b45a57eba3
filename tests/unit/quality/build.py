"""Small score matrices with known numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from argus.quality.matrix import Header, Rows, ScoreMatrix, ScorerVersion
from argus.types import Level

LEVELS = (
    Level("whole", "big", 1.0, 1.0),
    Level("half", "big", 0.5, 0.9),
    Level("skip", "big", 1.0, 0.8, skip_fraction=0.5),
)


def matrix(
    scores: NDArray[np.float64],
    levels: Sequence[Level] = LEVELS,
    missed: frozenset[tuple[int, int]] = frozenset(),
    splits: Sequence[str] = (),
    similarity: Sequence[float] = (),
) -> ScoreMatrix:
    """Return a matrix with `scores` (prompts, repeats, levels); NaN: no row.

    `missed` are (prompt, level) pairs whose state was not there.
    """
    texts: dict[str, list[str]] = {
        name: []
        for name in (
            *("prompt_id", "prompt", "kind", "split", "group"),
            *("level", "variant", "neighbour_id", "node"),
        )
    }
    wholes: dict[str, list[int]] = {name: [] for name in ("repeat", "seed", "steps", "skip")}
    near, values = [], []
    for (i, repeat, k), score in np.ndenumerate(scores):
        if np.isnan(score):
            continue
        level = levels[k]
        skip = level.skip(10) if (i, k) not in missed else 0
        row = {
            "prompt_id": f"p{i}",
            "prompt": f"prompt number {i}",
            "kind": f"kind {i % 2}",
            "split": splits[i] if splits else "train",
            "group": f"p{i}",
            "level": level.name,
            "variant": level.variant,
            "neighbour_id": "n" if skip else "",
            "node": "node-0",
        }
        for name, value in row.items():
            texts[name].append(value)
        for name, number in (("repeat", repeat), ("seed", i), ("steps", 10), ("skip", skip)):
            wholes[name].append(number)
        near.append(similarity[i] if similarity else 0.7)
        values.append(float(score))
    header = Header(
        tuple(levels), (ScorerVersion("facts", "1", ("facts",)),), "facts", "e", {"date": "today"}
    )
    return ScoreMatrix(header, Rows(texts, wholes, np.array(near), {"facts": np.array(values)}))
