"""What a model sees of a prompt and of a level: numbers from its words, embedding and neighbour."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from argus.control.predictor import PromptView
from argus.types import Level

Floats = NDArray[np.float64]

_WORD = re.compile(r"[^\W_]+")
_GENERAL = 4
_NEARNESS = 3
_CLOSEST = 1e-3
"""Distances below it count as this much."""


def words_of(text: str) -> list[str]:
    """Return the words of a prompt in lower case, in any script."""
    return _WORD.findall(text.lower())


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Which words count.

    Attributes:
        words: counted one by one.
        classes: counted together, by the name of the class: colours, numbers and the like.
        known: every word of the prompts that were learned from.
    """

    words: tuple[str, ...]
    classes: Mapping[str, frozenset[str]]
    known: frozenset[str]

    @property
    def names(self) -> tuple[str, ...]:
        """What the numbers of `count` are."""
        general = ("characters, log", "words, log", "commas", "known words, share")
        counted = (f"{what}: {name}" for name in self.classes for what in ("number", "kinds"))
        return (*general, *counted, *(f"word: {word}" for word in self.words))

    def known_share(self, words: Sequence[str]) -> float:
        """Return the share of the words that were learned from; 0 where there are none."""
        return sum(word in self.known for word in words) / len(words) if words else 0.0

    def count(self, text: str) -> list[float]:
        """Return the numbers of one prompt, as many as `names`."""
        words = words_of(text)
        counts = Counter(words)
        numbers = [
            float(np.log1p(len(text))),
            float(np.log1p(len(words))),
            float(text.count(",")),
            self.known_share(words),
        ]
        for members in self.classes.values():
            found = [counts[word] for word in counts.keys() & members]
            numbers += [float(sum(found)), float(len(found))]
        return numbers + [float(counts[word]) for word in self.words]


@dataclass(frozen=True, slots=True)
class Projection:
    """The directions in which embeddings of prompts differ most: mean (d,) and axes (d, k)."""

    mean: Floats
    axes: Floats

    def __call__(self, embeddings: Floats) -> Floats:
        """Return the coordinates of (n, d) embeddings, (n, k)."""
        return (embeddings - self.mean) @ self.axes


@dataclass(frozen=True, eq=False)
class Inputs:
    """What models are given of n prompts.

    Attributes:
        prompts: (n, f) numbers of the prompts.
        embeddings: (n, d); None where the predictor has none.
        similarity: (n,) to the neighbour.
        levels: (l, g) numbers of the levels.
        continues: (l,) whether the level continues a neighbour's state; only there similarity
            says something.
    """

    prompts: Floats
    embeddings: Floats | None
    similarity: Floats
    levels: Floats
    continues: NDArray[np.bool_]

    @cached_property
    def nearness(self) -> Floats:
        """(n, 3): the similarity, and how near that is to 1 in two other measures."""
        away = np.clip(1.0 - self.similarity, 0.0, None)
        return np.stack([self.similarity, -np.log(away + _CLOSEST), np.sqrt(away)], axis=1)

    @cached_property
    def rows(self) -> Floats:
        """(n · l, f + g + 3): every pair of a prompt and a level."""
        n, count = len(self.prompts), len(self.levels)
        near = self.nearness[:, None, :] * self.continues[None, :, None]
        return np.concatenate(
            [
                np.broadcast_to(self.prompts[:, None, :], (n, count, self.prompts.shape[1])),
                np.broadcast_to(self.levels[None], (n, *self.levels.shape)),
                near,
            ],
            axis=2,
        ).reshape(n * count, -1)

    @property
    def width(self) -> int:
        """Columns of `rows`."""
        return self.prompts.shape[1] + self.levels.shape[1] + _NEARNESS


@dataclass(frozen=True, slots=True)
class Features:
    """Turns what is known of prompts into what models are given."""

    lexicon: Lexicon
    projection: Projection | None
    levels: tuple[Level, ...]

    @property
    def prompt_width(self) -> int:
        """Numbers of a prompt."""
        axes = 0 if self.projection is None else self.projection.axes.shape[1]
        return _GENERAL + 2 * len(self.lexicon.classes) + len(self.lexicon.words) + axes

    def inputs(self, prompts: Sequence[PromptView]) -> Inputs:
        """Return the numbers of prompts, which have an embedding where there is a projection."""
        words = np.array([self.lexicon.count(p.text) for p in prompts], dtype=np.float64)
        embeddings = None
        if self.projection is not None:
            embeddings = np.stack([np.asarray(p.embedding, np.float64) for p in prompts])
            words = np.concatenate([words, self.projection(embeddings)], axis=1)
        similarity = [0.0 if p.similarity is None else p.similarity for p in prompts]
        return Inputs(
            words,
            embeddings,
            np.array(similarity),
            level_numbers(self.levels),
            np.array([level.skip_fraction > 0 for level in self.levels]),
        )


def level_numbers(levels: Sequence[Level]) -> Floats:
    """Return (l, l + 3): which level, its steps and skipped share, and its mean quality."""
    facts = [[np.log(x.steps_fraction), x.skip_fraction, x.quality] for x in levels]
    return np.concatenate([np.eye(len(levels)), np.array(facts, np.float64)], axis=1)
