"""What a task may become, and what it would choose at any price of a device second."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
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
        idle_s: the same on a node with nothing else to do, without what it takes to fetch a state.
        whole_s: the same of the slowest.
    """

    __slots__ = (
        "_variants",
        "costs",
        "fastest_s",
        "idle_s",
        "least_quality",
        "least_s",
        "offers",
        "qualities",
        "whole_s",
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
        idle_s = [c.idle_s for c in costs]
        self.idle_s, self.whole_s = min(idle_s), max(idle_s)
        self._variants: frozenset[str] | None = None

    @property
    def variants(self) -> frozenset[str]:
        """What the offers are made with; worked out for those only that are asked for it."""
        if self._variants is None:
            self._variants = frozenset([offer.row.variant for offer in self.offers])
        return self._variants

    def by_worth(self, price: float) -> Iterator[int]:
        """Yield the indices by falling quality − price · device seconds.

        The first is most often all that is asked for, so that the others are not sorted before.
        """
        worth = [
            price * work_s - quality
            for quality, work_s in zip(self.qualities, self.works_s, strict=True)
        ]
        best = worth.index(min(worth))
        yield best
        others = sorted(range(len(worth)), key=worth.__getitem__)
        others.remove(best)
        yield from others

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
        qualities, works_s = np.array((self.qualities, self.works_s))
        worth = qualities[:, None] - works_s[:, None] * prices
        return np.asarray(works_s.take(worth.argmax(axis=0)))


class ChoicesTable:
    """Many choices as arrays, to ask all of them at once what they would choose.

    Args:
        many: which.
    """

    def __init__(self, many: Collection[Choices]) -> None:
        self._count = len(many)
        by_length: dict[int, list[tuple[int, Choices]]] = {}
        for index, choices in enumerate(many):
            by_length.setdefault(len(choices.offers), []).append((index, choices))
        self._parts = [
            (
                [index for index, _ in alike],
                _rows((each.qualities for _, each in alike), length),
                _rows((each.works_s for _, each in alike), length),
                _rows((each.busy_s for _, each in alike), length),
            )
            for length, alike in by_length.items()
        ]

    def at(self, prices: Floats) -> Floats:
        """Return (n, 3, prices) quality, device seconds and seconds in full batches of the best."""
        found = np.empty((self._count, 3, len(prices)))
        for places, *columns in self._parts:
            qualities, works_s, _ = columns
            firsts = qualities.shape[1] * np.arange(len(places))[:, None]
            best = _best(qualities, works_s, prices) + firsts
            for index, column in enumerate(columns):
                found[places, index] = column.take(best)
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
    if not states and bound:
        whole = [i for i, offer in enumerate(offers) if offer.near is None and not offer.fallback]
        found = choices_of([offers[i] for i in whole], [qualities[i] for i in whole], fleet, bound)
        if found is not None:
            return found
    costs = [
        fleet.costs(offer.row) if offer.near is None else _from_state(offer, fleet, hit_chance)
        for offer in offers
    ]
    for fallback in (False, True):
        able = [
            (offer, quality, cost)
            for offer, quality, cost in zip(offers, qualities, costs, strict=True)
            if cost is not None and offer.fallback is fallback
        ]
        if able:
            kept, worths, known = zip(*(able if bound else able[:1]), strict=True)
            choices = Choices(kept, worths, known)
            if fleet.is_partial:
                choices.least_s = fleet.pooled_s(tuple(offer.row for offer in kept))
            return choices
    return None


def _from_state(offer: Offer, fleet: Fleet, hit_chance: float) -> ShapeCosts | None:
    """Return what an offer costs on average that starts from a state; None: no node can.

    Its least time is that of a row that finds its state.
    """
    cost = fleet.costs(offer.row)
    if cost is None or not _reachable(offer, fleet):
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
