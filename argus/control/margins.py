"""By how much rows take longer than predicted, as learned from those that ended."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence

_REMEMBERED = 512
_LEARN_EVERY = 32


class Margins:
    """A factor on predicted seconds for each kind of node, held by a share of the rows.

    Args:
        share: of the rows that are to end within the predicted seconds times the factor.
        first: the factor before anything was learned.
    """

    def __init__(self, share: float = 0.995, first: float = 1.02) -> None:
        self._share = share
        self._first = first
        self._ratios: dict[str, deque[float]] = {}
        self._factors: dict[str, float] = {}
        self._since: dict[str, int] = {}

    def note(self, kind: str, predicted_s: float, actual_s: float) -> None:
        """Take in a row that ended."""
        if predicted_s <= 0:
            return
        ratios = self._ratios.get(kind)
        if ratios is None:
            ratios = self._ratios[kind] = deque(maxlen=_REMEMBERED)
        ratios.append(actual_s / predicted_s)
        self._since[kind] = self._since.get(kind, 0) + 1
        if self._since[kind] >= _LEARN_EVERY:
            self._learn(kind)

    def factor(self, kind: str) -> float:
        """Return the factor for a kind of node."""
        return self._factors.get(kind, self._first)

    def state(self) -> dict[str, list[float]]:
        """Return the ratios of actual to predicted seconds by kind, ready for JSON."""
        return {kind: [round(x, 4) for x in ratios] for kind, ratios in self._ratios.items()}

    def restore(self, state: Mapping[str, Sequence[float]]) -> None:
        """Go on with ratios that another process saw.

        Raises:
            ValueError: they make no sense.
        """
        ratios = {
            str(kind): deque((float(x) for x in values), maxlen=_REMEMBERED)
            for kind, values in state.items()
        }
        if not all(math.isfinite(x) and x >= 0 for values in ratios.values() for x in values):
            raise ValueError("ratios must not be below 0")
        self._ratios = ratios
        for kind, values in ratios.items():
            if len(values) >= _LEARN_EVERY:
                self._learn(kind)

    def _learn(self, kind: str) -> None:
        self._since[kind] = 0
        ordered = sorted(self._ratios[kind])
        self._factors[kind] = max(1.0, ordered[int(self._share * (len(ordered) - 1))])

    @property
    def largest(self) -> float:
        """The largest factor of any kind."""
        return max(self._factors.values(), default=self._first)
