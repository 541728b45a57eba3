"""The predictor that was fitted to a profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from argus.control.learned.bounds import Bounds
from argus.control.learned.domain import Domain
from argus.control.learned.features import Features
from argus.control.learned.models import Model
from argus.control.learned.order import Chain, lower_to_order, settle
from argus.control.predictor import Expectation, LevelMeans, PromptView
from argus.types import Level

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class FittedPredictor:
    """Expected relative quality by prompt and level, with a lower bound.

    What is known of a prompt decides what is said of it: a prompt like those learned from gets the
    model's answer; without an embedding, or at a level that continues a state without a neighbour,
    the level's mean with the margin that belongs to it; a strange prompt (empty, too long, of
    unknown words, or with an embedding far from all that was learned from) what the level was
    worth to the worst quarter of prompts, and no lower bound above 0. The reference level is 1 by
    definition. No text and no embedding of the right length makes it raise.

    Attributes:
        profile: fingerprint of what it was fitted to.
        embedder: name of the embedder whose vectors it knows; empty: it needs none.
        dimension: of those vectors.
        coverage: of the lower bounds.
        features: whose levels are those it knows, with their measured means, the reference first.
        domain: of prompts.
        model: what was learned.
        bounds: of it.
        worst: (l,) mean quality of the worst quarter of the prompts at each level.
        chains: orders that predictions keep.
        details: how it was found and judged, as JSON values.
    """

    profile: str
    embedder: str
    dimension: int
    coverage: float
    features: Features
    domain: Domain
    model: Model
    bounds: Bounds
    worst: Floats
    chains: tuple[Chain, ...]
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def levels(self) -> tuple[Level, ...]:
        """The levels it knows, the reference first."""
        return self.features.levels

    @property
    def variants(self) -> frozenset[str]:
        """Variants of its levels."""
        return frozenset(level.variant for level in self.levels)

    @property
    def means(self) -> Floats:
        """(l,) mean quality of each level."""
        return np.array([level.quality for level in self.levels])

    def knows(self, level: Level) -> bool:
        """Whether it was fitted to this level, whatever quality is stated of it."""
        return _same_place(level, self.levels) is not None

    def predict(
        self, prompts: Sequence[PromptView], levels: Sequence[Level]
    ) -> tuple[tuple[Expectation, ...], ...]:
        """Return what to expect of each of `prompts` at each of `levels`, prompt by prompt.

        Levels it does not know get their stated mean, and no lower bound above 0. Where it knows
        none of them, as of a variant that was not profiled, only the means are known, and they are
        all that can be held to, as of `LevelMeans`.
        """
        places = [_same_place(level, self.levels) for level in levels]
        if all(place is None for place in places):
            return LevelMeans().predict(prompts, levels)
        if not prompts:
            return ()
        quality, lower = self.arrays(prompts)
        unknown = [Expectation(level.quality, 0.0) for level in levels]
        return tuple(
            tuple(
                unknown[i] if place is None else Expectation(qualities[place], bounds[place])
                for i, place in enumerate(places)
            )
            for qualities, bounds in zip(quality.tolist(), lower.tolist(), strict=True)
        )

    def arrays(self, prompts: Sequence[PromptView]) -> tuple[Floats, Floats]:
        """Return expected quality and lower bound at all the levels it knows, each (n, l)."""
        means = self.means
        quality = np.tile(means, (len(prompts), 1))
        lower = np.tile(self.bounds.lower_of_means(means), (len(prompts), 1))
        strange = np.array([not self.domain.holds(p, self.features.lexicon) for p in prompts])
        seen = np.array([self._embedded(p) for p in prompts]) & ~strange
        if self.embedder and seen.any():
            vectors = [p.embedding for p, is_seen in zip(prompts, seen, strict=True) if is_seen]
            near = self.domain.near(np.stack([np.asarray(v, np.float64) for v in vectors]))
            places = np.flatnonzero(seen)
            seen[places] = near
            strange[places] = ~near
        if seen.any():
            places = np.flatnonzero(seen)
            self._fill(quality, lower, places, [prompts[i] for i in places])
        quality[strange] = self.worst
        lower[strange] = 0.0
        quality[:, 0] = lower[:, 0] = 1.0
        return lower_to_order(quality, self.chains), lower_to_order(lower, self.chains)

    def _fill(
        self,
        quality: Floats,
        lower: Floats,
        places: NDArray[np.int64],
        prompts: Sequence[PromptView],
    ) -> None:
        """Put the model's answers in where the model has what it needs."""
        inputs = self.features.inputs(prompts)
        raw = self.model(inputs)
        alone = np.array([p.similarity is None for p in prompts])
        told = ~(alone[:, None] & inputs.continues[None])
        answer = settle(np.where(told, raw, quality[places]), self.chains)
        quality[places] = np.where(told, answer, quality[places])
        lower[places] = np.where(told, self.bounds.lower(answer), lower[places])

    def _embedded(self, prompt: PromptView) -> bool:
        """Whether the prompt has the vector that is needed."""
        if not self.embedder:
            return True
        vector = prompt.embedding
        return (
            vector is not None
            and vector.shape == (self.dimension,)
            and bool(np.isfinite(vector).all())
        )


def _same_place(level: Level, levels: Sequence[Level]) -> int | None:
    wanted = level.name, level.variant, level.steps_fraction, level.skip_fraction
    for i, known in enumerate(levels):
        if (known.name, known.variant, known.steps_fraction, known.skip_fraction) == wanted:
            return i
    return None
