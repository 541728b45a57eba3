"""Refusals that do not depend on who else waits, and when a retry has a chance."""

from __future__ import annotations

from collections.abc import Iterable

from argus.control.backlog import NodeBacklog
from argus.control.policy import Task
from argus.control.router import idle_finish_s
from argus.errors import DeadlineError, OverloadedError, UnavailableError

NO_NODE = "no node that could make this image is connected"
SHORTEST_RETRY_S = 0.1
"""Nobody is told to come back sooner: at once means a busy loop."""


def check_possible(idle_s: float | None, remaining_s: float) -> None:
    """Raise where a request has no chance at all.

    Args:
        idle_s: seconds of its fastest level on an idle cluster; None where no node makes it.
        remaining_s: seconds to its deadline; infinity without one.

    Raises:
        UnavailableError: no node can make it.
        DeadlineError: not even an idle cluster could be on time.
    """
    if idle_s is None:
        raise UnavailableError(NO_NODE)
    if idle_s > remaining_s:
        raise DeadlineError(
            f"deadline_s: {remaining_s:g} s is too short; the fastest acceptable level takes "
            f"{idle_s:.3g} s on an idle cluster"
        )


def turn_away(task: Task, nodes: Iterable[NodeBacklog], now_s: float, in_flight: int) -> None:
    """Refuse a request because so many are in flight.

    Raises:
        UnavailableError, DeadlineError: it would have no chance later either.
        OverloadedError: with the time until some request is finished.
    """
    nodes = list(nodes)
    check_possible(idle_finish_s(task.offers, nodes), task.deadline_at_s - now_s)
    raise OverloadedError(
        f"{in_flight} requests are in flight, as many as are allowed",
        retry_after_s=max(SHORTEST_RETRY_S, room_s(nodes)),
    )


def room_s(nodes: Iterable[NodeBacklog]) -> float:
    """Return the predicted seconds until some request is finished."""
    return min((node.next_free_s() for node in nodes if len(node)), default=0.0)
