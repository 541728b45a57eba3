"""What became of the requests of one fault, as a row of the table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from chaos_cluster import Moment
from client_load import Outcome


def lost(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Return the requests that were accepted and got no picture."""
    return [one for one in outcomes if one.accepted_s is not None and not one.answered]


def duplicated(outcomes: Sequence[Outcome], again: dict[str, str], made_again: int) -> list[str]:
    """Return what is wrong with pictures.

    Args:
        outcomes: of requests with seeds of their own.
        again: digests by request id, of requests that were asked for again with the same id.
        made_again: pictures that the coordinator counts beyond those that clients received.
    """
    wrong = [f"{one.request_id}: {one.images} images" for one in outcomes if one.images > 1]
    digests = Counter(one.digest for one in outcomes if one.answered)
    wrong += [
        f"{n} requests got the picture {digest[:8]}" for digest, n in digests.items() if n > 1
    ]
    for one in outcomes:
        if one.request_id in again and again[one.request_id] != one.digest:
            wrong.append(f"{one.request_id}: another picture when asked again")
    if made_again > 0:
        wrong.append(f"{made_again} pictures were made for nobody")
    return wrong


def longest_gap_s(outcomes: Sequence[Outcome], from_s: float, to_s: float) -> float:
    """Return the longest time without an answer between two moments."""
    ends = sorted(o.ended_s for o in outcomes if o.answered and o.ended_s is not None)
    marks = [from_s, *(end for end in ends if from_s < end < to_s), to_s]
    return max(after - before for before, after in zip(marks, marks[1:], strict=False))


def whole_after_s(
    moments: Sequence[Moment], nodes: frozenset[str], fault_s: float, usual: int
) -> float | None:
    """Return the seconds from a fault until all nodes are there and no more waits than usual.

    None where that did not come about. What counts is the beginning of the last stretch in which
    it was so without interruption.
    """
    since_s: float | None = None
    for now in moments:
        if now.at_s < fault_s:
            continue
        fine = nodes <= now.nodes and now.in_flight <= usual
        since_s = (since_s or now.at_s) if fine else None
    return None if since_s is None else since_s - fault_s


def refusals_ms(outcomes: Iterable[Outcome]) -> list[float]:
    """Return how long it took to be refused, in milliseconds from when the request was sent."""
    return [
        1000 * (one.ended_s - one.sent_s)
        for one in outcomes
        if one.refused and one.ended_s is not None
    ]


def quantile(values: Sequence[float], share: float) -> float | None:
    """Return a quantile, or None of nothing."""
    return float(np.quantile(values, share)) if values else None


def shown(value: float | None) -> Any:
    """Return a figure as the tables show it."""
    return "" if value is None else round(value, 2)
