"""How many steps a request may skip by starting from its neighbour's state, and what that costs.

Checkpoints and thresholds are those published for 50 steps (NIRVANA, Agarwal et al., NSDI 2024;
used unchanged by Argus, arXiv 2511.06724): similarity above .65 allows 5 steps, .75 10, .85 15,
.90 20, .95 25. Other step counts keep the fractions. They are a cold start: a learned function
from similarity to the harmless fraction takes their place when there is one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from argus.errors import InvalidArgumentError

CHECKPOINT_FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5)
"""Shares of the steps before which states are kept."""

HarmlessFraction = Callable[[float], float]
"""From cosine similarity to the share of the steps that can be skipped without harm, 0 … 1."""


@dataclass(frozen=True, slots=True)
class SimilarityThresholds:
    """A staircase: above `similarities[i]`, the share `fractions[i]` of the steps is harmless."""

    similarities: tuple[float, ...] = (0.65, 0.75, 0.85, 0.90, 0.95)
    fractions: tuple[float, ...] = CHECKPOINT_FRACTIONS

    def __post_init__(self) -> None:
        for name, values in (("similarities", self.similarities), ("fractions", self.fractions)):
            if not values or any(a >= b for a, b in zip(values, values[1:], strict=False)):
                raise InvalidArgumentError(f"thresholds.{name}", f"must ascend: {values}")
        if len(self.similarities) != len(self.fractions):
            raise InvalidArgumentError("thresholds", "need as many similarities as fractions")
        if not (self.fractions[0] > 0 and self.fractions[-1] < 1):
            raise InvalidArgumentError(
                "thresholds.fractions", f"must be between 0 and 1: {self.fractions}"
            )

    def __call__(self, similarity: float) -> float:
        """Return the harmless share; 0 up to the first threshold."""
        i = bisect_left(self.similarities, similarity)
        return self.fractions[i - 1] if i else 0.0


PUBLISHED = SimilarityThresholds()


def checkpoint_steps(
    steps: int, fractions: Sequence[float] = CHECKPOINT_FRACTIONS
) -> tuple[int, ...]:
    """Return the K at which a run of `steps` steps leaves states, ascending; none for one step.

    K = fraction · steps, rounded down so that no more is skipped than was found harmless.
    """
    wanted = {_whole(fraction, steps) for fraction in fractions}
    return tuple(sorted(k for k in wanted if 0 < k < steps))


def choose_skip(
    similarity: float,
    steps: int,
    stored: Iterable[int],
    harmless: HarmlessFraction = PUBLISHED,
) -> int:
    """Return the largest stored K that is harmless, or 0 to start from noise.

    Args:
        similarity: cosine between the request's prompt and its neighbour's.
        steps: N of the request.
        stored: K that the neighbour has.
        harmless: the published staircase, or what was learned.
    """
    most = _whole(harmless(similarity), steps)
    return max((k for k in stored if 0 < k <= most and k < steps), default=0)


def pays(skip: int, step_s: float, retrieval_s: float) -> bool:
    """Whether fetching a state takes less time than the steps it saves.

    Args:
        skip: K.
        step_s: seconds of one step on the node.
        retrieval_s: expected seconds of the fetch, a high quantile rather than the mean.
    """
    return retrieval_s < skip * step_s


def _whole(fraction: float, steps: int) -> int:
    # 0.3 · 50 is 15 − 2e-15 in floats.
    return int(fraction * steps + 1e-9)


@dataclass(frozen=True, slots=True)
class NearState:
    """A cached prompt near that of a request, for one variant and step count.

    Attributes:
        variant: whose states they are.
        steps: N of the runs that they were taken from and may be used for.
        key: of the entry.
        similarity: cosine between the two prompts.
        nodes: by K, the nodes that can read the state before step K.
        fetch_s: expected seconds to fetch one.
        harmless: how much may be skipped at a similarity.
    """

    variant: str
    steps: int
    key: str
    similarity: float
    nodes: Mapping[int, frozenset[str]]
    fetch_s: float = 0.0
    harmless: HarmlessFraction = PUBLISHED

    def allows(self, skip: int) -> bool:
        """Whether a request may start before step `skip` from it."""
        reachable = [k for k, nodes in self.nodes.items() if nodes]
        most = choose_skip(self.similarity, self.steps, reachable, self.harmless)
        return 0 < skip <= most and skip in reachable


def nearest_similarity(near: Iterable[NearState]) -> float | None:
    """Return the similarity of the nearest prompt of which some node can read a state, or None."""
    reachable = (state for state in near if any(state.nodes.values()))
    return max((state.similarity for state in reachable), default=None)


class RetrievalTimes:
    """Seconds that fetches took lately, by tier.

    Args:
        window: fetches of each tier that are remembered.
    """

    def __init__(self, window: int = 512) -> None:
        if window < 1:
            raise InvalidArgumentError("window", f"must be at least 1, not {window}")
        self._window = window
        self._seconds: dict[str, deque[float]] = {}

    def add(self, tier: str, seconds: float) -> None:
        """Note one fetch."""
        self._seconds.setdefault(tier, deque(maxlen=self._window)).append(seconds)

    def tiers(self) -> tuple[str, ...]:
        """Return the tiers that were fetched from."""
        return tuple(self._seconds)

    def quantile(self, tier: str, share: float) -> float | None:
        """Return the seconds that `share` of the fetches did not exceed; None before the first."""
        if not 0 <= share <= 1:
            raise InvalidArgumentError("share", f"must be within 0 … 1, not {share}")
        seconds = sorted(self._seconds.get(tier, ()))
        if not seconds:
            return None
        return seconds[min(len(seconds) - 1, int(share * len(seconds)))]
