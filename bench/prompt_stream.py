"""A synthetic stream of prompts whose likeness to earlier ones is distributed as published.

Prompt i copies an earlier prompt p and changes it: its embedding has cosine s with p's and is
otherwise random, so in many dimensions its cosine with any third prompt j is s · cos(p, j). Hence
the likeness of all pairs follows from one number a prompt, without any matrix of embeddings.

Assumptions, stated because no public log can be had here:
- s is drawn from the published quantiles of best-neighbour similarity on real prompts, 3.2 % exact
  repeats among them (Argus, arXiv 2511.06724);
- p is drawn with a weight that is Zipf-like (Pareto, exponent 1) and halves every `half_life`
  prompts, since what people draw drifts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

QUANTILES = (
    (0.0, 0.45), (0.01, 0.503), (0.05, 0.573), (0.10, 0.604), (0.25, 0.657), (0.50, 0.712),
    (0.75, 0.784), (0.90, 0.888), (0.95, 0.965), (0.968, 0.999), (0.9681, 1.0), (1.0, 1.0),
)  # fmt: skip
FLOOR = 0.65
"""Pairs less alike than this are of no use to any level."""


@dataclass(frozen=True)
class Draws:
    """Prompts in order of arrival.

    `parent[i]` is the prompt that i was made from (-1: none), `likeness[i]` its cosine with it,
    `same_as[i]` the first prompt with the same text.
    """

    parent: NDArray[np.int64]
    likeness: NDArray[np.float64]
    same_as: NDArray[np.int64]


@dataclass(frozen=True)
class Stream(Draws):
    """The same with each prompt's neighbours.

    `near[i]` are the earlier distinct prompts with a cosine above `FLOOR`, most alike first, as
    (prompt, cosine).
    """

    near: list[list[tuple[int, float]]]


def draw(count: int, seed: int, half_life: float = 10_000.0) -> Draws:
    """Return `count` prompts."""
    rng = np.random.default_rng(seed)
    levels, values = zip(*QUANTILES, strict=True)
    likeness = np.interp(rng.random(count), levels, values)
    popularity = (1.0 + rng.pareto(1.0, count)) * 2.0 ** (np.arange(count) / half_life)
    reach = np.cumsum(popularity)
    parent = np.full(count, -1)
    same_as = np.arange(count)
    for i in range(1, count):
        parent[i] = same_as[np.searchsorted(reach[:i], rng.random() * reach[i - 1])]
        if likeness[i] == 1.0:
            same_as[i] = parent[i]
    return Draws(parent, likeness, same_as)


def make(count: int, seed: int, half_life: float = 10_000.0) -> Stream:
    """Return a stream of `count` prompts with their neighbours."""
    draws = draw(count, seed, half_life)
    near: list[list[tuple[int, float]]] = []
    around: list[dict[int, float]] = []
    for i in range(count):
        seen = _seen_from(int(draws.parent[i]), float(draws.likeness[i]), around)
        if draws.same_as[i] == i:
            for j, cosine in seen.items():
                around[j][i] = cosine
        around.append(seen if draws.same_as[i] == i else {})
        near.append(sorted(seen.items(), key=lambda pair: -pair[1]))
    return Stream(draws.parent, draws.likeness, draws.same_as, near)


def _seen_from(parent: int, likeness: float, around: list[dict[int, float]]) -> dict[int, float]:
    if parent < 0 or likeness <= FLOOR:
        return {}
    seen = {j: c * likeness for j, c in around[parent].items() if c * likeness > FLOOR}
    seen[parent] = likeness
    return seen


def embeddings(stream: Draws, dimension: int, seed: int) -> NDArray[np.float32]:
    """Return unit vectors, (n, dimension), with the stream's cosines to each prompt's parent."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((len(stream.parent), dimension)).astype(np.float32)
    for i, parent in enumerate(stream.parent):
        own = vectors[i]
        if parent >= 0:
            above, s = vectors[parent], float(stream.likeness[i])
            own -= (own @ above) * above
            own *= np.sqrt(max(0.0, 1.0 - s * s)) / np.linalg.norm(own)
            own += s * above
        own /= np.linalg.norm(own)
    return vectors
