"""The levels that requests have shown so far, for policies that plan by level."""

from __future__ import annotations

from collections.abc import Sequence

from argus.control.backlog import RowShape
from argus.control.offers import Offer
from argus.types import Level


class SeenLevels:
    """Levels by falling quality, each with the row it was offered as last."""

    def __init__(self) -> None:
        self.levels: tuple[Level, ...] = ()
        self.shapes: dict[str, RowShape] = {}
        self._rank: dict[str, int] = {}

    def see(self, offers: Sequence[Offer]) -> None:
        """Take in what a request may become."""
        for offer in offers:
            name = offer.level.name
            if name not in self._rank:
                # A sort that keeps the order in which equal ones came, the reference first.
                self.levels = tuple(
                    sorted((*self.levels, offer.level), key=lambda level: -level.quality)
                )
                self._rank = {level.name: i for i, level in enumerate(self.levels)}
            self.shapes[name] = offer.row

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
