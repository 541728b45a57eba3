"""What a task may become, and what it would choose at any price of a device second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from argus.control.fleet import Fleet, ShapeCosts
from argus.control.offers import Offer

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Choices:
    """Offers that some node takes, with their worth and cost.

    Attributes:
        offers: the level that the task is measured against first, where a node takes it.
        qualities: expected relative quality of each.
        costs: of each.
        least_s: device seconds of the cheapest.
        fastest_s: seconds from start to end of the fastest, in full batches.
        idle_s: the same on a node with nothing else to do.
        least_quality: quality of the cheapest.
        table: (3, offers) qualities, device seconds, seconds in full batches.
    """

    offers: tuple[Offer, ...]
    qualities: tuple[float, ...]
    costs: tuple[ShapeCosts, ...]
    least_s: float
    fastest_s: float
    idle_s: float
    least_quality: float
    table: Floats

    def by_worth(self, price: float) -> list[int]:
        """Return the indices by falling quality − price · device seconds."""
        worth = [
            price * cost.work_s - quality
            for quality, cost in zip(self.qualities, self.costs, strict=True)
        ]
        return sorted(range(len(worth)), key=worth.__getitem__)

    def by_speed(self) -> list[Offer]:
        """Return the offers, the one that an idle node ends first before the others."""
        idle_s = [
            cost.idle_s + offer.fetch_s for cost, offer in zip(self.costs, self.offers, strict=True)
        ]
        return [self.offers[i] for i in sorted(range(len(idle_s)), key=idle_s.__getitem__)]

    def index_at(self, prices: Floats) -> NDArray[np.intp]:
        """Return (prices,) the index of what is best at each price."""
        return (self.table[0, :, None] - self.table[1, :, None] * prices).argmax(axis=0)


def choices_of(
    offers: Sequence[Offer], qualities: Sequence[float], fleet: Fleet, bound: bool
) -> Choices | None:
    """Return what a task may become on the fleet as it is; None where no node takes any of it.

    Args:
        offers: reference first; fallbacks count only where no node takes the others.
        qualities: expected of each.
        fleet: the nodes.
        bound: whether the task has a deadline. Without one it is made at the first offer that a
            node takes, always, so that it does not look different under load.
    """
    able = [
        (offer, quality, costs)
        for offer, quality in zip(offers, qualities, strict=True)
        if (costs := fleet.costs(offer.row)) is not None and _reachable(offer, fleet)
    ]
    able = [option for option in able if not option[0].fallback] or able
    if not able:
        return None
    if not bound:
        able = able[:1]
    kept, worths, costs = zip(*able, strict=True)
    least = min(range(len(able)), key=lambda i: (costs[i].work_s, -worths[i]))
    return Choices(
        kept,
        worths,
        costs,
        least_s=costs[least].work_s,
        fastest_s=min(c.busy_s + o.fetch_s for c, o in zip(costs, kept, strict=True)),
        idle_s=min(c.idle_s for c in costs),
        least_quality=worths[least],
        table=np.array([worths, [c.work_s for c in costs], [c.busy_s for c in costs]]),
    )


def _reachable(offer: Offer, fleet: Fleet) -> bool:
    """Whether a node that takes rows can read the state that the offer needs."""
    if offer.near is None:
        return True
    nodes = (fleet[name] for name in offer.near.nodes[offer.skip] if name in fleet)
    return any(not node.draining and node.holds(offer.row.variant) for node in nodes)
