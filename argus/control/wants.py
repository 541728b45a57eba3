"""What is asked for lately, as classes of demand for the planner."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from argus.control.arrivals import Average
from argus.control.backlog import RowShape
from argus.control.offers import Offer
from argus.control.planner import ClassDemand
from argus.types import Level

PARTS = 4
"""Classes that requests with the same levels are parted into, by what they lose at the cheapest."""
_REMEMBERED = 256
_MOST_KINDS = 16
"""Sets of levels that are told apart; of more, the least asked for are forgotten."""
_LEAST_RATE = 1e-3


@dataclass(slots=True)
class _Kind:
    rate: Average
    qualities: deque[tuple[float, ...]]
    first_s: float


class Wants:
    """Counts requests by the levels that are open to them, and remembers their qualities.

    Args:
        memory_s: of the rates.
    """

    def __init__(self, memory_s: float) -> None:
        self._memory_s = memory_s
        self._kinds: dict[tuple[str, ...], _Kind] = {}
        self._levels: dict[str, Level] = {}
        self._shapes: dict[str, RowShape] = {}

    def note(self, offers: Sequence[Offer], now_s: float) -> None:
        """Count a request, accepted or not."""
        open_to = [offer for offer in offers if not offer.fallback]
        for offer in open_to:
            self._levels[offer.level.name] = offer.level
            self._shapes[offer.level.name] = offer.row
        names = tuple(offer.level.name for offer in open_to)
        kind = self._kinds.get(names)
        if kind is None:
            kind = self._kinds[names] = _Kind(
                Average(self._memory_s), deque(maxlen=_REMEMBERED), now_s
            )
            self._forget(now_s)
        kind.rate.arrive(now_s)
        kind.qualities.append(tuple(offer.quality for offer in open_to))

    @property
    def levels(self) -> tuple[Level, ...]:
        """Every level seen, by falling quality."""
        return tuple(sorted(self._levels.values(), key=lambda level: (-level.quality, level.name)))

    @property
    def shapes(self) -> dict[str, RowShape]:
        """By level, the row that it was last."""
        return self._shapes

    def classes(self, now_s: float) -> tuple[ClassDemand, ...]:
        """Return the classes; those that nobody asks for any more are left out."""
        found = []
        for index, (names, kind) in enumerate(self._kinds.items()):
            rate_per_s = kind.rate.at(now_s)
            if rate_per_s < _LEAST_RATE:
                continue
            ordered = sorted(kind.qualities, key=lambda q: q[-1] - q[0])
            parts = min(PARTS, len(ordered))
            for part in range(parts):
                mine = ordered[part * len(ordered) // parts : (part + 1) * len(ordered) // parts]
                means = [math.fsum(column) / len(mine) for column in zip(*mine, strict=True)]
                share = len(mine) / len(ordered)
                found.append(
                    ClassDemand(
                        f"{index}-{part}",
                        rate_per_s * share,
                        dict(zip(names, means, strict=True)),
                    )
                )
        return tuple(found)

    def _forget(self, now_s: float) -> None:
        if len(self._kinds) > _MOST_KINDS:
            old = min(list(self._kinds)[:-1], key=lambda names: self._kinds[names].rate.at(now_s))
            del self._kinds[old]
