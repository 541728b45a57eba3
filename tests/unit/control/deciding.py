"""A policy asked about one request, on nodes that a test has filled."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

from argus.control.backlog import NodeBacklog
from argus.control.fleet import Fleet
from argus.control.offers import Offer
from argus.control.policies.argus import ArgusPolicy
from argus.control.policy import Start, Task
from argus.control.router import Decision
from argus.errors import DeadlineError, OverloadedError, UnavailableError
from argus.types import Level
from tests.unit.control.build import COSTS, SMALL_COSTS, row

BOTH = {"base": COSTS, "small": SMALL_COSTS}
MANY = 10_000
_ORDER = itertools.count()


def offer(name: str, quality: float, steps: int = 50, variant: str = "base") -> Offer:
    level = Level(name, variant, steps / 50, quality)
    return Offer(level, row(steps, variant=variant), 5.0, "ddim", quality, steps, 50)


LADDER = (
    offer("base-50", 1.0),
    offer("base-25", 0.97, 25),
    offer("base-10", 0.9, 10),
    offer("small-50", 0.8, 50, "small"),
)


def fleet_of(nodes: Iterable[NodeBacklog], limit: int = MANY) -> Fleet:
    fleet = Fleet()
    for node in nodes:
        fleet.add(node, limit)
    return fleet


def task(offers: Sequence[Offer], remaining_s: float | None, now_s: float = 0.0) -> Task:
    order = next(_ORDER)
    deadline_at_s = math.inf if remaining_s is None else now_s + remaining_s
    return Task(f"t{order}", tuple(offers), now_s, deadline_at_s, order)


def decide(
    offers: Sequence[Offer], nodes: Iterable[NodeBacklog], remaining_s: float | None
) -> Decision | None:
    """Return what a new request would get; None where it is refused."""
    try:
        return ArgusPolicy().admit(task(offers, remaining_s), fleet_of(nodes), 0.0)
    except (DeadlineError, OverloadedError, UnavailableError):
        return None


def start_all(policy: ArgusPolicy, fleet: Fleet, now_s: float = 0.0) -> list[Start]:
    """Carry out what a policy does now, as a driver would; return the starts."""
    starts = []
    for act in policy.dispatch(fleet, now_s):
        if isinstance(act, Start):
            decision = act.decision
            fleet[decision.node].add(act.task.id, decision.offer.row, act.task.deadline_at_s)
            starts.append(act)
    return starts
