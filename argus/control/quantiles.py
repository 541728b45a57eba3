"""A quantile of what was seen lately, of each kind of thing by itself."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence

_REMEMBERED = 512
_LEARN_EVERY = 32


class RecentQuantile:
    """A quantile of the last values of each kind, looked up anew every few of them.

    Args:
        quantile: 0 to 1.
        first: values of a kind after which there is one, and as long as few are known, between two
            look-ups.
        most: that a value may be; 0 is the least.

    Attributes:
        largest: of the quantiles of all kinds; None where too little was seen of any.
        least_median: the smallest median of all kinds; None likewise.
    """

    def __init__(self, quantile: float, first: int = _LEARN_EVERY, most: float = math.inf) -> None:
        self._quantile = quantile
        self._first = first
        self._most = most
        self._values: dict[str, deque[float]] = {}
        self._found: dict[str, float] = {}
        self._medians: dict[str, float] = {}
        self._since: dict[str, int] = {}
        self.largest: float | None = None
        self.least_median: float | None = None

    def note(self, kind: str, value: float) -> None:
        """Take in a value."""
        values = self._values.get(kind)
        if values is None:
            values = self._values[kind] = deque(maxlen=_REMEMBERED)
        values.append(value)
        self._since[kind] = self._since.get(kind, 0) + 1
        if self._since[kind] >= (_LEARN_EVERY if len(values) > _LEARN_EVERY else self._first):
            self._look_up(kind)

    def get(self, kind: str) -> float | None:
        """Return the quantile of a kind; None where too little was seen."""
        return self._found.get(kind)

    def state(self) -> dict[str, list[float]]:
        """Return the values by kind, ready for JSON."""
        return {kind: [round(x, 4) for x in values] for kind, values in self._values.items()}

    def restore(self, state: Mapping[str, Sequence[float]]) -> None:
        """Go on with values that another process saw.

        Raises:
            ValueError: they make no sense; nothing of them is taken then.
        """
        found = {
            str(kind): deque((float(x) for x in values), maxlen=_REMEMBERED)
            for kind, values in state.items()
        }
        for values in found.values():
            if not all(math.isfinite(x) and 0 <= x <= self._most for x in values):
                raise ValueError(f"values must be finite, from 0 to {self._most:g}")
        self._values = found
        self._found.clear()
        self._medians.clear()
        self._since.clear()
        self.largest = self.least_median = None
        for kind, values in found.items():
            if len(values) >= self._first:
                self._look_up(kind)

    def _look_up(self, kind: str) -> None:
        self._since[kind] = 0
        ordered = sorted(self._values[kind])
        self._found[kind] = ordered[int(self._quantile * (len(ordered) - 1))]
        self._medians[kind] = ordered[(len(ordered) - 1) // 2]
        self.largest = max(self._found.values())
        self.least_median = min(self._medians.values())
