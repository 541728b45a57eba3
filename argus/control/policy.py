"""What decides: level, node and order of every request, or its refusal.

A policy is pure: it is told what happened and when, and says what to do. The coordinator drives it
with its clock and real nodes, the simulator with a virtual clock and modelled ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

from argus.control.fleet import Fleet
from argus.control.offers import Offer
from argus.control.router import Decision
from argus.errors import ArgusError


@dataclass(slots=True, eq=False)
class Task:
    """A request as a policy sees it. Times in seconds of the driver's clock.

    Attributes:
        id: of the request.
        offers: what it may become, the level it is measured against first.
        arrived_s: when it came.
        deadline_at_s: when it is late; infinity without a deadline.
        order: counts accepted requests; breaks ties.
        tenant: on whose behalf it is made.
        lost: whether a node lost it, so that it goes before all others.
        avoid: names of nodes that failed it.
        held: whether it keeps its place but is not to be started: nobody listens just now.
        decision: the last one made for it; None before the first.
        similarity: of its prompt to the nearest cached one; None where that is not known.
    """

    id: str
    offers: tuple[Offer, ...]
    arrived_s: float
    deadline_at_s: float = math.inf
    order: int = 0
    tenant: str = ""
    lost: bool = False
    avoid: set[str] = field(default_factory=set)
    held: bool = False
    decision: Decision | None = None
    similarity: float | None = None


class Start(NamedTuple):
    """Send the task to a node now, at the decision's level."""

    task: Task
    decision: Decision


class GiveUp(NamedTuple):
    """End an accepted task with an error: it cannot be made in time any more."""

    task: Task
    error: ArgusError


class Policy(Protocol):
    """Decides for every task. The policy owns tasks that are admitted and not yet started."""

    def admit(self, task: Task, fleet: Fleet, now_s: float) -> Decision:
        """Take a new task; return what it would get now, which is not binding.

        Raises:
            UnavailableError: no node can make it.
            OverloadedError: too much is to be done before it.
            DeadlineError: not even an idle cluster could be on time.
        """
        ...

    def dispatch(self, fleet: Fleet, now_s: float) -> Iterator[Start | GiveUp]:
        """Yield what to do now.

        The caller carries each out before it asks for the next: a started row is then in its
        node's backlog. Called after every arrival, after room came up, and after `plan`.
        """
        ...

    def withdraw(self, task: Task) -> None:
        """Forget a task that waits: its client left."""
        ...

    def put_back(self, task: Task) -> None:
        """Take a started task back: its node was lost or did not take it."""
        ...

    def fetched(self, task: Task, hit: bool) -> None:
        """Note whether a started task found the state that its level starts from."""
        ...

    def ended(self, task: Task, now_s: float, made: bool = True) -> None:
        """Note that a started task is done, or, where nothing was `made`, failed or cancelled."""
        ...

    def plan(self, fleet: Fleet, now_s: float) -> float:
        """Do what is done from time to time; return when to be called again, on the same clock."""
        ...


@runtime_checkable
class Reviewer(Protocol):
    """What a policy offers beside `Policy` if a request may take a second pass: a cascade.

    A driver that has a discriminator calls `review` after `ended`, for each row that made a
    picture. A driver without one never calls it, and every first picture is handed out.
    """

    def review(self, task: Task, score: float, fleet: Fleet, now_s: float) -> bool:
        """Return whether a picture is handed out; else its task waits again.

        Args:
            task: with the decision that the picture was made by.
            score: of the picture.
            fleet: the nodes.
            now_s: the time.
        """
        ...


@runtime_checkable
class Lasting(Protocol):
    """A policy that learns what is worth keeping over a restart of its driver."""

    def state(self, now_s: float) -> dict[str, Any]:
        """Return what it has learned, ready for JSON."""
        ...

    def restore(self, state: Mapping[str, Any], at_s: float) -> None:
        """Go on with what another process had learned; to be called before the first task.

        Args:
            state: what `state` returned there.
            at_s: when, on this clock.

        Raises:
            ValueError, KeyError, TypeError, AttributeError, OverflowError: it makes no sense;
                nothing of it is taken then.
        """
        ...


@dataclass(frozen=True, slots=True)
class Figures:
    """What a policy with a price goes by at a moment.

    Attributes:
        price: worth of a device second in units of quality.
        arrivals_per_s: expected.
        load: their work without approximation, relative to what the nodes can do.
        margin: factor on predicted seconds beyond what other rows on a node explain, learned from
            rows that ended.
        filling: how far nodes fill up while a row runs, 0 to 1; NaN before anything was learned.
        reserve: time kept free when tasks are accepted, relative to their fastest level's.
        plan_age_s: age of the plan; None before the first.
    """

    price: float
    arrivals_per_s: float
    load: float
    margin: float
    filling: float
    reserve: float
    plan_age_s: float | None


@runtime_checkable
class Priced(Protocol):
    """A policy that puts a price on device seconds."""

    def figures(self, now_s: float) -> Figures:
        """Return what it goes by now."""
        ...
