"""Accept, degrade, or refuse with the time after which a retry has a chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from argus.control.backlog import NodeBacklog, RowShape, due_s
from argus.control.offers import Offer
from argus.control.router import Decision, fastest, idle_finish_s, route
from argus.errors import DeadlineError, OverloadedError, UnavailableError

SHORTEST_RETRY_S = 0.1
"""Nobody is told to come back sooner: at once means a busy loop."""


@dataclass(frozen=True, slots=True)
class Load:
    """What the cluster has to do, at one moment."""

    nodes: Sequence[NodeBacklog]
    queued: Sequence[RowShape]
    """Accepted rows that no node has been given yet and that go before a new request."""
    in_flight: int
    """Requests accepted and not finished."""
    max_in_flight: int
    now_s: float = 0.0
    """On the clock of the rows' due times."""


def admit(
    offers: Sequence[Offer], deadline_s: float | None, load: Load, *, price: float = 0.0
) -> Decision:
    """Return the decision a new request would get now.

    It is accepted at the best level that can be on time: degraded before it is refused. The
    decision stays open; the request is bound to a node and a level when it is sent to one.

    Args:
        offers: what the request may become, reference first.
        deadline_s: seconds from now, or None.
        load: the cluster now.
        price: worth of a device second in units of quality.

    Raises:
        UnavailableError: no node can make it.
        OverloadedError: too many requests are in flight, or the work before this one is too much
            for its deadline.
        DeadlineError: not even an idle cluster could be on time.
    """
    idle_s = idle_finish_s(offers, load.nodes)
    if idle_s is None:
        raise UnavailableError("no node that could make this image is connected")
    if deadline_s is not None and idle_s > deadline_s:
        raise DeadlineError(
            f"deadline_s: {deadline_s:g} s is too short; the fastest acceptable level takes "
            f"{idle_s:.3g} s on an idle cluster"
        )
    if load.in_flight >= load.max_in_flight:
        raise OverloadedError(
            f"{load.in_flight} requests are in flight, as many as are allowed",
            retry_after_s=max(SHORTEST_RETRY_S, room_s(load.nodes)),
        )
    wait_s = queue_s(load.queued, load.nodes)
    row_due_s = due_s(load.now_s, load.now_s + (math.inf if deadline_s is None else deadline_s))
    decision = route(offers, load.nodes, deadline_s, due_s=row_due_s, price=price, queue_s=wait_s)
    if decision is None:
        soonest = fastest(offers, load.nodes, row_due_s, wait_s)
        raise _too_late(deadline_s, soonest)
    return decision


def _too_late(deadline_s: float | None, soonest: Decision | None) -> OverloadedError:
    """Return the refusal of a request that only an emptier cluster could make in time.

    Finished work brings the predicted finish nearer second by second, so a retry has a chance
    after the seconds that are too many now.
    """
    finish_s = soonest.predicted_finish_s if soonest else 0.0
    retry_after_s = max(SHORTEST_RETRY_S, finish_s - (deadline_s or 0.0))
    return OverloadedError(
        f"no acceptable level can be done in {deadline_s:g} s now; the fastest needs "
        f"{finish_s:.3g} s",
        retry_after_s=retry_after_s,
    )


def room_s(nodes: Sequence[NodeBacklog]) -> float:
    """Return the predicted seconds until some request is finished."""
    return min((node.next_free_s() for node in nodes if len(node)), default=0.0)


def queue_s(queued: Sequence[RowShape], nodes: Sequence[NodeBacklog]) -> float:
    """Return the seconds in which the nodes together could work through `queued`.

    Whichever node has room takes the head of the queue, so the nodes' rates add up: with `t_j`
    the device seconds of the whole queue on node `j`, the queue is done after `1 / Σ 1/t_j`.
    Rows are counted in full batches, as they run when there is a queue.
    """
    counts: dict[RowShape, int] = {}
    for shape in queued:
        counts[shape] = counts.get(shape, 0) + 1
    rate = 0.0
    for node in nodes:
        work = [n * node.device_s(s) for s, n in counts.items() if node.holds(s.variant)]
        if not node.draining and sum(work) > 0:
            rate += 1.0 / sum(work)
    return 1.0 / rate if rate else 0.0
