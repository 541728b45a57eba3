"""Where a waiting request should go now."""

from __future__ import annotations

from collections.abc import Sequence

from argus.control.backlog import due_s
from argus.control.router import Decision, HeldSeconds, fastest, idle_finish_s, route, takers
from argus.coordinator.flight import Flight
from argus.coordinator.membership import Member
from argus.errors import DeadlineError


def place(
    flight: Flight,
    members: Sequence[Member],
    now_s: float,
    held_s: HeldSeconds,
    others_wait: bool,
) -> Decision | None:
    """Return the level and the node that are best for a request, or None when no node takes it.

    Nodes without room count too: the best one may be worth waiting for. What cannot be on time any
    more with the work there is, but could on idle nodes, gets its fastest level.

    Args:
        flight: the request.
        members: all nodes.
        now_s: seconds of the coordinator's clock.
        held_s: seconds of work that waits for each full node, by its name.
        others_wait: whether more requests are in the line; whoever waits behind was promised a
            time in which this one keeps its level.

    Raises:
        DeadlineError: no node could be on time even if it were idle.
    """
    avoided = _avoided(flight, members)
    nodes = [member.backlog for member in members if member.name not in avoided]
    remaining_s = flight.remaining_s(now_s)
    row_due_s = due_s(now_s, flight.deadline_at_s)
    offers = flight.offers
    if others_wait:
        offers = offers[offers.index(flight.decision.offer) :]
    decision = route(offers, nodes, remaining_s, due_s=row_due_s, held_s=held_s)
    if decision is not None or remaining_s is None:
        return decision
    idle_s = idle_finish_s(flight.offers, nodes)
    if idle_s is not None and idle_s > remaining_s:
        raise DeadlineError(f"{remaining_s:.3g} s are left and at least {idle_s:.3g} s needed")
    return fastest(flight.offers, nodes, row_due_s, held_s=held_s)


def _avoided(flight: Flight, members: Sequence[Member]) -> set[str]:
    """Return the nodes that failed the request, as long as there is another."""
    others = [m.backlog for m in members if m.name not in flight.failed_on]
    return flight.failed_on if any(takers(o, others) for o in flight.offers) else set()
