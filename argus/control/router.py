"""One request → (level, node)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from argus.control.backlog import NodeBacklog
from argus.control.offers import Offer


@dataclass(frozen=True, slots=True)
class Decision:
    """Where a request goes and what is expected of it."""

    offer: Offer
    node: str
    predicted_finish_s: float
    """Seconds from the moment of the decision."""

    @property
    def predicted_quality(self) -> float:
        """Predicted relative quality."""
        return self.offer.quality


HeldSeconds = Mapping[str, float]
NOTHING: HeldSeconds = MappingProxyType({})


def takers(offer: Offer, nodes: Iterable[NodeBacklog]) -> list[NodeBacklog]:
    """Return the nodes that may be given a row of this offer."""
    return [
        node
        for node in nodes
        if not node.draining and node.holds(offer.row.variant) and offer.may_run_on(node.info.name)
    ]


def open_to(offers: Iterable[Offer], nodes: Sequence[NodeBacklog]) -> list[Offer]:
    """Return the offers that some node takes; fallbacks only where there are no others."""
    taken = [offer for offer in offers if takers(offer, nodes)]
    return [offer for offer in taken if not offer.fallback] or taken


def earliest(
    offer: Offer,
    nodes: Iterable[NodeBacklog],
    due_s: float = math.inf,
    queue_s: float = 0.0,
    held_s: HeldSeconds = NOTHING,
) -> Decision | None:
    """Return the node that would finish first, or None when no node can take the row.

    Args:
        offer: the level.
        nodes: where it may run.
        due_s: when the row would be due, on the clock of the nodes' rows; infinity: after them.
        queue_s: seconds of work that will be given to the nodes before this request.
        held_s: seconds of work that waits for one node each, by its name.
    """
    options = [
        (
            queue_s
            + held_s.get(node.info.name, 0.0)
            + offer.fetch_s
            + node.finish_s(offer.row, due_s),
            node.info.name,
        )
        for node in takers(offer, nodes)
    ]
    if not options:
        return None
    finish_s, name = min(options)
    return Decision(offer, name, finish_s)


def route(
    offers: Sequence[Offer],
    nodes: Sequence[NodeBacklog],
    remaining_s: float | None,
    *,
    due_s: float = math.inf,
    price: float = 0.0,
    queue_s: float = 0.0,
    held_s: HeldSeconds = NOTHING,
) -> Decision | None:
    """Return the best decision, or None when nothing can be on time or no node can take it.

    With a deadline: the highest `quality − price · device seconds` among the offers that can be
    done in `remaining_s`; among equals the earliest. Without one: the first offer that some node
    takes, always, so that a request without a deadline does not look different under load.

    Args:
        offers: what the request may become, reference first.
        nodes: candidates.
        remaining_s: seconds to the deadline, or None.
        due_s: when the row would be due, on the clock of the nodes' rows; infinity: after them.
        price: worth of a device second in units of quality.
        queue_s: seconds of work that will be given to the nodes before this request.
        held_s: seconds of work that waits for one node each, by its name.
    """
    offers = open_to(offers, nodes)
    if remaining_s is None:
        return earliest(offers[0], nodes, due_s, queue_s, held_s) if offers else None
    by_name = {node.info.name: node for node in nodes}
    best = math.inf, math.inf
    chosen: Decision | None = None
    for offer in sorted(offers, key=lambda offer: -offer.quality):
        if -offer.quality > best[0]:
            break  # even at no cost it would be worse, and so would all that follow
        able = [node for node in takers(offer, nodes) if node.idle_s(offer.row) <= remaining_s]
        option = earliest(offer, able, due_s, queue_s, held_s)
        if option is None or option.predicted_finish_s > remaining_s:
            continue
        cost_s = by_name[option.node].device_s(offer.row) if price else 0.0
        rank = (price * cost_s - offer.quality, option.predicted_finish_s)
        if rank < best:
            best, chosen = rank, option
    return chosen


def fastest(
    offers: Sequence[Offer],
    nodes: Sequence[NodeBacklog],
    due_s: float = math.inf,
    queue_s: float = 0.0,
    held_s: HeldSeconds = NOTHING,
) -> Decision | None:
    """Return the decision that would be done first, whatever its quality, or None."""
    found = [earliest(offer, nodes, due_s, queue_s, held_s) for offer in open_to(offers, nodes)]
    options = [option for option in found if option is not None]
    return min(options, key=lambda option: option.predicted_finish_s, default=None)


def idle_finish_s(offers: Sequence[Offer], nodes: Sequence[NodeBacklog]) -> float | None:
    """Return the seconds of the fastest offer on an idle cluster, or None without a node."""
    times = [node.idle_s(offer.row) for offer in offers for node in takers(offer, nodes)]
    return min(times, default=None)
