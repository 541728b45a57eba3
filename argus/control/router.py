"""What is decided for a request: level and node; and which nodes come into question."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from argus.control.backlog import NodeBacklog
from argus.control.offers import Offer


class Decision(NamedTuple):
    """Where a request goes and what is expected of it."""

    offer: Offer
    node: str
    predicted_finish_s: float
    """Seconds from the moment of the decision."""

    @property
    def predicted_quality(self) -> float:
        """Predicted relative quality."""
        return self.offer.quality


def takers(offer: Offer, nodes: Iterable[NodeBacklog]) -> list[NodeBacklog]:
    """Return the nodes that may be given a row of this offer."""
    return [
        node
        for node in nodes
        if not node.draining and node.holds(offer.row.variant) and offer.may_run_on(node.info.name)
    ]


def idle_finish_s(offers: Sequence[Offer], nodes: Sequence[NodeBacklog]) -> float | None:
    """Return the seconds of the fastest offer on an idle cluster, or None without a node."""
    times = [node.idle_s(offer.row) for offer in offers for node in takers(offer, nodes)]
    return min(times, default=None)
