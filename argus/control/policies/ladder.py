"""The levels that requests have shown so far, for policies that plan by level."""

from __future__ import annotations

import math
from collections.abc import Sequence

from argus.control.fleet import Fleet
from argus.control.offers import Offer
from argus.control.row_costs import RowShape
from argus.types import Level


class SeenLevels:
    """Levels by falling quality, each with the row it was offered as last."""

    def __init__(self) -> None:
        self.levels: tuple[Level, ...] = ()
        self.shapes: dict[str, RowShape] = {}
        self._rank: dict[str, int] = {}

    def see(self, offers: Sequence[Offer]) -> bool:
        """Take in what a request may become; return whether it has levels that are new."""
        known = len(self._rank)
        for offer in offers:
            name = offer.level.name
            if name not in self._rank:
                # A sort that keeps the order in which equal ones came, the reference first.
                self.levels = tuple(
                    sorted((*self.levels, offer.level), key=lambda level: -level.quality)
                )
                self._rank = {level.name: i for i, level in enumerate(self.levels)}
            self.shapes[name] = offer.row
        return len(self._rank) > known

    def fastest(self, fleet: Fleet, quality: float = -math.inf) -> int:
        """Return the rank of the level that takes the least device seconds.

        That is not always the last one: by quality a fast level may stand before a slow one.

        Args:
            fleet: the nodes; each level counts on its fastest one, in full batches.
            quality: mean quality that is asked for; where no level has it, the best one.
        """
        found = [
            (costs.busy_s, -rank)
            for rank, level in enumerate(self.levels)
            if level.quality >= quality
            and (costs := fleet.costs(self.shapes[level.name])) is not None
        ]
        return -min(found)[1] if found else 0

    def rank(self, name: str) -> int:
        """Return the index of a level that was seen."""
        return self._rank[name]

    def nearest(self, offers: Sequence[Offer], wanted: int) -> Offer:
        """Return the most approximate offer that is no more so than level `wanted`.

        Where all are more approximate, the least so. `offers` holds levels that were seen.
        """
        ranked = [(self._rank[offer.level.name], -i) for i, offer in enumerate(offers)]
        safe = [pair for pair in ranked if pair[0] <= wanted]
        _, i = max(safe) if safe else min(ranked, key=lambda pair: (pair[0], -pair[1]))
        return offers[-i]
