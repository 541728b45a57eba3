"""What a task may become, and what it would choose at any price of a device second."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from argus.control.fleet import Fleet, ShapeCosts
from argus.control.offers import Offer

Floats = NDArray[np.float64]

_SURE = 0.995
"""Chance from which on a miss is not reckoned with."""


class Choices:
    """Offers that some node takes, with their worth and cost.

    Args:
        offers: the level that the task is measured against first, where a node takes it.
        qualities: expected relative quality of each.
        costs: of each.

    Attributes:
        works_s: device seconds of each.
        least_s: device seconds of the cheapest; where nodes serve different variants, of what is
            cheapest on each (`Fleet.pooled_s`).
        least_quality: quality of the cheapest.
        fastest_s: seconds from start to end of the fastest, in full batches.
        idle_s: the same on a node with nothing else to do.
    """

    __slots__ = (
        "costs",
        "fastest_s",
        "idle_s",
        "least_quality",
        "least_s",
        "offers",
        "qualities",
        "works_s",
    )

    def __init__(
        self, offers: Sequence[Offer], qualities: Sequence[float], costs: Sequence[ShapeCosts]
    ) -> None:
        self.offers = tuple(offers)
        self.qualities = tuple(qualities)
        self.costs = tuple(costs)
        self.works_s = [cost.work_s for cost in costs]
        self.least_s = min(self.works_s)
        least = self.works_s.index(self.least_s)
        self.least_quality = self.qualities[least]
        self.fastest_s = min([c.busy_s + o.fetch_s for c, o in zip(costs, offers, strict=True)])
        self.idle_s = min([c.idle_s for c in costs])

    def by_worth(self, price: float) -> list[int]:
        """Return the indices by falling quality − price · device seconds."""
        worth = [
            price * work_s - quality
            for quality, work_s in zip(self.qualities, self.works_s, strict=True)
        ]
        return sorted(range(len(worth)), key=worth.__getitem__)

    def by_speed(self) -> list[Offer]:
        """Return the offers, the one that an idle node ends first before the others."""
        pairs = zip(self.costs, self.offers, strict=True)
        idle_s = [cost.idle_s + offer.fetch_s for cost, offer in pairs]
        return [self.offers[i] for i in sorted(range(len(idle_s)), key=idle_s.__getitem__)]

    @property
    def busy_s(self) -> list[float]:
        """Seconds in full batches of each."""
        return [cost.busy_s for cost in self.costs]

    def works_at(self, prices: Floats) -> Floats:
        """Return (prices,) device seconds of what is best at each."""
        works_s = np.array(self.works_s)
        worth = np.array(self.qualities)[:, None] - works_s[:, None] * prices
        return np.asarray(works_s.take(worth.argmax(axis=0)))


def at_prices(many: Collection[Choices], prices: Floats) -> Floats:
    """Return (n, 3, prices) quality, device seconds and seconds in full batches of what is best."""
    by_length: dict[int, list[tuple[int, Choices]]] = {}
    for index, choices in enumerate(many):
        by_length.setdefault(len(choices.offers), []).append((index, choices))
    found = np.empty((len(many), 3, len(prices)))
    for length, alike in by_length.items():
        qualities = _rows((each.qualities for _, each in alike), length)
        works_s = _rows((each.works_s for _, each in alike), length)
        busy_s = _rows((each.busy_s for _, each in alike), length)
        best = _best(qualities, works_s, prices) + length * np.arange(len(alike))[:, None]
        places = [index for index, _ in alike]
        for column, table in enumerate((qualities, works_s, busy_s)):
            found[places, column] = table.take(best)
    return found


def _best(qualities: Floats, works_s: Floats, prices: Floats) -> NDArray[np.intp]:
    """Return (n, prices) the index of what is best at each, the first of equals.

    Level by level, which takes a quarter of the time of `argmax` over so short an axis.
    """
    most = qualities[:, :1] - works_s[:, :1] * prices
    best = np.zeros(most.shape, np.intp)
    for level in range(1, qualities.shape[1]):
        column = slice(level, level + 1)
        worth = qualities[:, column] - works_s[:, column] * prices
        better = worth > most
        np.copyto(most, worth, where=better)
        best[better] = level
    return best


def _rows(rows: Iterable[Sequence[float]], length: int) -> Floats:
    """Return (rows, length) an array, in a quarter of the time that `np.array` takes for it."""
    return np.fromiter(chain.from_iterable(rows), np.float64).reshape(-1, length)


def choices_of(
    offers: Sequence[Offer],
    qualities: Sequence[float],
    fleet: Fleet,
    bound: bool,
    *,
    states: bool = True,
    hit_chance: float = 1.0,
) -> Choices | None:
    """Return what a task may become on the fleet as it is; None where no node takes any of it.

    Args:
        offers: reference first; fallbacks count only where no node takes the others.
        qualities: expected of each.
        fleet: the nodes.
        bound: whether the task has a deadline. Without one it is made at the first offer that a
            node takes, always, so that it does not look different under load.
        states: whether levels that start from a state count; off: only where there are no others.
        hit_chance: that the state is found; without it every step is run.
    """
    kept, worths, costs = [], [], []
    if not states and bound:
        whole = [i for i, offer in enumerate(offers) if offer.near is None and not offer.fallback]
        found = choices_of([offers[i] for i in whole], [qualities[i] for i in whole], fleet, bound)
        if found is not None:
            return found
    for fallback in (False, True):
        for offer, quality in zip(offers, qualities, strict=True):
            if offer.fallback is not fallback:
                continue
            cost = _cost(offer, fleet, hit_chance)
            if cost is None:
                continue
            kept.append(offer)
            worths.append(quality)
            costs.append(cost)
            if not bound:
                break
        if kept:
            choices = Choices(kept, worths, costs)
            if fleet.is_partial:
                choices.least_s = fleet.pooled_s(tuple(offer.row for offer in kept))
            return choices
    return None


def _cost(offer: Offer, fleet: Fleet, hit_chance: float) -> ShapeCosts | None:
    """Return what an offer costs on average; None where no node takes it.

    Its least time is that of a row that finds its state.
    """
    cost = fleet.costs(offer.row)
    if cost is None or offer.near is None:
        return cost
    if not _reachable(offer, fleet):
        return None
    whole = fleet.costs(offer.whole) if hit_chance < _SURE else None
    if whole is None:
        return cost
    work_s = hit_chance * cost.work_s + (1.0 - hit_chance) * whole.work_s
    busy_s = hit_chance * cost.busy_s + (1.0 - hit_chance) * whole.busy_s
    return replace(cost, work_s=work_s, busy_s=busy_s)


def _reachable(offer: Offer, fleet: Fleet) -> bool:
    """Whether a node that takes rows can read the state that the offer needs."""
    if offer.near is None:
        return True
    for name in offer.near.nodes[offer.skip]:
        if name in fleet:
            node = fleet[name]
            if not node.draining and node.holds(offer.row.variant):
                return True
    return False
