"""The life of a request: accepted, queued, replayed when its node is lost, ended once."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections.abc import Callable, Mapping, Sequence

from argus.clock import Clock
from argus.config import CoordinatorConfig
from argus.control.admission import SHORTEST_RETRY_S, room_s, turn_away
from argus.control.backlog import due_s
from argus.control.crowd import Crowd
from argus.control.fairness import Share, equal_shares
from argus.control.offers import Offer, make_offers
from argus.control.policy import Policy, Task
from argus.control.predictor import PromptView, QualityPredictor
from argus.control.reuse import NearState
from argus.control.router import Decision
from argus.coordinator.catalog import Catalog
from argus.coordinator.counters import Counters
from argus.coordinator.flight import Flight, Phase
from argus.coordinator.flight_trace import FlightTrace
from argus.coordinator.giving import Giving
from argus.coordinator.membership import Member, Membership
from argus.coordinator.quarantine import MOST_STRIKES, Quarantine
from argus.coordinator.results import ResultMemory, check_same
from argus.coordinator.reuse import Reuse
from argus.coordinator.subscription import Subscription
from argus.errors import (
    ArgusError,
    CancelledError,
    DeadlineError,
    InternalError,
    OverloadedError,
    UnavailableError,
)
from argus.tracing.spans import NO_SPAN, Span
from argus.types import MAX_SEED, SHADOW_TENANT, ImageRequest
from argus.v1 import image_pb2

log = logging.getLogger(__name__)


class Dispatcher:
    """Owns every request in flight.

    One event loop calls it; no call blocks.

    Args:
        clock: where the time comes from.
        config: limits.
        membership: the nodes.
        catalog: what can be asked for.
        predictor: quality of levels.
        policy: decides on level, node and order.
        reuse: what rows leave behind for later ones; None where nothing is cached.
        share_of: what each tenant is due.

    Attributes:
        giving: carries out what the policy decides.
    """

    def __init__(
        self,
        clock: Clock,
        config: CoordinatorConfig,
        membership: Membership,
        catalog: Catalog,
        predictor: QualityPredictor,
        policy: Policy,
        reuse: Reuse | None = None,
        share_of: Callable[[str], Share] = equal_shares,
    ) -> None:
        self._clock = clock
        self._config = config
        self._crowd = Crowd(config.max_in_flight, share_of)
        self._membership = membership
        self._catalog = catalog
        self._predictor = predictor
        self._policy = policy
        self._reuse = reuse
        self._results = ResultMemory(config.result_ttl_s, config.result_bytes)
        self._flights: dict[str, Flight] = {}
        self._quarantine = Quarantine()
        self.giving = Giving(
            clock,
            membership,
            catalog,
            policy,
            reuse,
            self._quarantine,
            self._flights,
            lambda flight, error: self._close(flight, Phase.FAILED, error),
            lambda: self.leads(),
        )
        self._accepted = 0
        self._closed = False
        self._empty = asyncio.Event()
        self._empty.set()
        self.counters = Counters()
        self._uncounted = Counters()
        self.leads: Callable[[], bool] = _always
        """Whether requests may be accepted and given out: no other coordinator leads."""
        self.before_accept: Callable[[], None] = _nothing
        """Called before a client's request is accepted, so that whatever gives way can."""
        self.after_image: Callable[[Flight, image_pb2.Image], None] = _nothing
        """Called with every picture that was made for a client."""
        self.on_offers: Callable[[Sequence[Offer]], None] = _nothing
        """Called with what a client's request may become, before it is accepted or refused."""

    def counters_of(self, request: ImageRequest) -> Counters:
        """Return what counts a request: the coordinator's own requests are nobody's."""
        return self._uncounted if request.tenant == SHADOW_TENANT else self.counters

    def _counters(self, flight: Flight) -> Counters:
        return self.counters_of(flight.request) if flight.counted else self._uncounted

    @property
    def policy(self) -> Policy:
        """What decides."""
        return self._policy

    @property
    def flights(self) -> Mapping[str, Flight]:
        """Requests in flight by id."""
        return self._flights

    @property
    def accepted(self) -> int:
        """Requests accepted so far, whoever made them."""
        return self._accepted

    @property
    def not_started(self) -> int:
        """Requests in flight whose first step has not begun."""
        return sum(flight.phase is not Phase.RUNNING for flight in self._flights.values())

    # -- from clients ---------------------------------------------------------------------------

    def knows(self, request_id: str) -> bool:
        """Whether a request of that id is in flight or remembered."""
        return request_id in self._flights or self._results.holds(request_id)

    def check_room(self, request: ImageRequest) -> None:
        """Refuse a new request before anything is done for it, where it cannot be taken.

        Raises:
            OverloadedError: as many requests are in flight as may be.
        """
        if len(self._flights) >= self._config.max_in_flight:
            self.before_accept()
        if self._crowd.may_enter(request.tenant, self._clock.now()):
            return
        error = OverloadedError(
            f"{len(self._flights)} requests are in flight, as many as are allowed",
            retry_after_s=max(SHORTEST_RETRY_S, room_s(self._membership.fleet)),
        )
        self.counters_of(request).refuse(error, full=True)
        raise error

    def submit(
        self,
        request: ImageRequest,
        near: Sequence[NearState] = (),
        came_s: float | None = None,
        prompt: PromptView | None = None,
        span: Span = NO_SPAN,
    ) -> Subscription:
        """Return the events of a request: a new one, the one in flight, or the one remembered.

        A client that stops listening must say so with `unsubscribe`.

        Args:
            request: what is wanted.
            near: cached prompts that it might start from.
            came_s: when it came, from which its deadline counts; None: now.
            prompt: what is known of its prompt; None: its text.
            span: of the call that brought it.

        Raises:
            InvalidArgumentError, NotFoundError: something asked for does not exist.
            OverloadedError, DeadlineError, UnavailableError: see `argus.control.policy.Policy`.
        """
        subscription = Subscription(request.request_id)
        flight = self._flights.get(request.request_id)
        if flight is not None:
            check_same(flight.request, request)
            flight.attach(subscription)
            self.giving.pump()
            return subscription
        remembered = self._results.find(request, self._clock.now())
        if remembered is not None:
            subscription.finish(remembered)
            return subscription
        if self._closed:
            raise UnavailableError("the coordinator is stopping")
        if not self.leads():
            raise UnavailableError("this coordinator leads no more")
        if request.tenant != SHADOW_TENANT:
            self.before_accept()
        came_s = self._clock.now() if came_s is None else came_s
        self._accept(request, subscription, near, came_s, prompt, span)
        self.giving.pump()
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Note that a client no longer listens.

        A request nobody listens to is cancelled when nobody has come back within the grace.
        """
        flight = self._flights.get(subscription.request_id)
        if flight is not None:
            flight.leave(subscription, self._clock.now())
            if self.cancel_if_deserted(flight):
                self.giving.pump()

    def cancel_if_deserted(self, flight: Flight) -> bool:
        """Cancel a request that nobody has listened to for the grace; return whether it was."""
        grace_s = self._config.reattach_grace_s if flight.grace_s is None else flight.grace_s
        if flight.deserted_s(self._clock.now()) < grace_s:
            return False
        self.abort(flight, Phase.CANCELLED, CancelledError("every client left"))
        return True

    def _accept(
        self,
        request: ImageRequest,
        subscription: Subscription,
        near: Sequence[NearState],
        came_s: float,
        prompt: PromptView | None,
        span: Span,
    ) -> None:
        offers = make_offers(
            request,
            self._catalog.ladder,
            self._catalog.variants,
            self._predictor,
            near,
            prompt=prompt,
            always_reuse=self._reuse is not None and self._reuse.always,
        )
        if request.tenant != SHADOW_TENANT:
            self.on_offers(offers)
        deadline_s = math.inf if request.deadline_s is None else request.deadline_s
        task = Task(
            id=request.request_id,
            offers=offers,
            arrived_s=came_s,
            deadline_at_s=came_s + deadline_s,
            order=self._accepted,
            tenant=request.tenant,
            similarity=max((state.similarity for state in near), default=None),
        )
        full = not self._crowd.may_enter(task.tenant, self._clock.now())
        try:
            decision = task.decision = self._admit(task, full)
        except (OverloadedError, DeadlineError) as error:
            self.counters_of(request).refuse(error, full)
            raise
        queued = image_pb2.Queued(ahead=self.not_started, predicted_s=decision.predicted_finish_s)
        flight = Flight(
            request=request,
            seed=secrets.randbelow(MAX_SEED + 1) if request.seed is None else request.seed,
            task=task,
            subscriptions=[subscription],
            trace=FlightTrace(span),
        )
        flight.trace.wait()
        self._accepted += 1
        self.counters_of(request).accepted += 1
        self._flights[flight.id] = flight
        self._crowd.enter(task.tenant)
        self._empty.clear()
        flight.tell(image_pb2.GenerateResponse(request_id=flight.id, queued=queued))

    def _admit(self, task: Task, full: bool) -> Decision:
        now_s, fleet = self._clock.now(), self._membership.fleet
        if full:
            turn_away(task, fleet, now_s, len(self._flights))
        return self._policy.admit(task, fleet, now_s)

    # -- from nodes -----------------------------------------------------------------------------

    def bring(self, flight: Flight, member: Member, decision: Decision, attempt: int) -> None:
        """Note that a node that joins has a request's row already, whoever gave it out.

        Args:
            flight: the request; one that is not known here is accepted.
            member: the node.
            decision: what the row is.
            attempt: number by which the node knows it.
        """
        now_s = self._clock.now()
        if flight.id in self._flights:
            self._take_from_place(flight)
        else:
            self._accepted += 1
            counters = self._counters(flight)
            counters.accepted += 1
            counters.adopted += 1
            self._flights[flight.id] = flight
            self._crowd.enter(flight.task.tenant)
            self._empty.clear()
        flight.in_policy = False
        flight.bring(decision, attempt, now_s)
        if flight.strikes:
            self._quarantine.found(flight)
        member.backlog.add(flight.id, flight.row, due_s(now_s, flight.deadline_at_s))

    def _take_from_place(self, flight: Flight) -> None:
        """Take a request from where it waits or runs, to be made elsewhere."""
        self._quarantine.drop(flight)
        flight.hold(False)
        if flight.phase is not Phase.QUEUED:
            member = self._leave_node(flight)
            if member is not None:
                member.forget(flight.id, flight.attempt)
            self._call_off(flight)
            if flight.in_policy:
                # What is put back and withdrawn teaches the policy nothing of how long rows take.
                self._policy.put_back(flight.task)
            flight.requeue()
        if flight.in_policy:
            self._policy.withdraw(flight.task)
        else:
            self.giving.forget(flight)

    def node_lost(self, member: Member, reason: str, died: bool = True, hung: bool = False) -> None:
        """Forget a node and replay what it had elsewhere; a node already lost is ignored.

        Args:
            member: the node.
            reason: for people.
            died: whether something it had to do may have killed it; a node that merely is not
                heard has a network before it.
            hung: whether its device did not get on with what it had: that is held against its
                rows even if it comes back with them.
        """
        if not self._membership.is_member(member):
            return
        self._membership.leave(member)
        held = [self._flights[row_id] for row_id in member.backlog.row_ids]
        log.info(
            "node %s is gone (%s); %d rows to replay",
            *(member.name, reason, len(held)),
            extra={"node": member.name},
        )
        for flight in held:
            lost = f"node {member.name} was lost ({reason}); starting again elsewhere"
            flight.warn("NODE_LOST", lost)
            struck = died and member.backlog.at_an_edge(flight.id)
            flight.lose(member.name, struck, hung, self._clock.now())
            self.replay(flight, f"node {member.name} was lost: {reason}")
        self.giving.give_out()

    def _call_off(self, flight: Flight) -> None:
        """Let another row leave behind the states that this one does not."""
        if self._reuse is not None and flight.keep_key:
            self._reuse.call_off(flight.keep_key)

    def replay(self, flight: Flight, reason: str) -> None:
        """Queue a request again, in front, after a node failed it.

        The poison rule: what failed `max_attempts` times, or was beginning or ending on
        MOST_STRIKES nodes when they died, may be what makes nodes fail, so it ends.
        """
        self._call_off(flight)
        flight.losses += 1
        flight.task.lost = True
        if flight.node is not None:
            flight.failed_on.add(flight.node)
            flight.task.avoid = set(flight.failed_on)
        if flight.losses >= self._config.max_attempts or flight.strikes >= MOST_STRIKES:
            gave_up = InternalError(f"given up after {flight.losses} attempts; the last: {reason}")
            self._detach(flight)
            self._close(flight, Phase.FAILED, gave_up)
            return
        self._counters(flight).replayed += 1
        self._requeue(flight)
        if flight.strikes and flight.in_policy:
            self._quarantine.take(flight)

    def take_away(self, flight: Flight, reason: str) -> None:
        """Replay a request that its node has and does not get done."""
        member = None if flight.node is None else self._membership.get(flight.node)
        if member is not None:
            member.forget(flight.id, flight.attempt)
        self.replay(flight, reason)

    def put_back(self, flight: Flight) -> None:
        """Queue a request again that its node did not take; this says nothing against it."""
        self._call_off(flight)
        self._requeue(flight)

    def _requeue(self, flight: Flight) -> None:
        self._leave_node(flight)
        flight.requeue()
        if flight.in_policy:
            self._policy.put_back(flight.task)
        else:
            # It is taken in again with its place in the policy's line.
            self._quarantine.drop(flight)
            self.giving.strays.append(flight)

    # -- endings --------------------------------------------------------------------------------

    def complete(self, flight: Flight, response: image_pb2.GenerateResponse) -> None:
        """End a request with its image."""
        now_s = self._clock.now()
        self._counters(flight).answer(flight, response.image, now_s)
        self._detach(flight, made=True)
        self._close(flight, Phase.DONE, response)
        if flight.request.tenant != SHADOW_TENANT:
            self._results.remember(flight.request, response, now_s)
            self.after_image(flight, response.image)

    def fail(self, flight: Flight, error: ArgusError) -> None:
        """End a request that its node gave up."""
        self._detach(flight)
        self._call_off(flight)
        self._close(flight, Phase.FAILED, error)

    def abort(self, flight: Flight, phase: Phase, error: ArgusError) -> None:
        """End a request wherever it is, and free what it holds on a node."""
        member = self._detach(flight)
        self._call_off(flight)
        if member is not None:
            member.forget(flight.id, flight.attempt)
        self._close(flight, phase, error)

    def forget_old_results(self) -> None:
        """Forget remembered images whose time is over."""
        self._results.expire(self._clock.now())

    def close(self) -> None:
        """Refuse new requests from now on; what is in flight goes on."""
        self._closed = True

    async def wait_empty(self) -> None:
        """Wait until nothing is in flight."""
        await self._empty.wait()

    def hand_over(self, error: ArgusError) -> None:
        """Let go of everything in flight: nodes keep the rows, and clients ask elsewhere."""
        for flight in tuple(self._flights.values()):
            self._detach(flight)
            self._close(flight, Phase.FAILED, error)

    def abort_all(self, error: ArgusError) -> None:
        """End everything in flight."""
        for flight in tuple(self._flights.values()):
            self.abort(flight, Phase.FAILED, error)

    def _detach(self, flight: Flight, made: bool = False) -> Member | None:
        """Take a request from the policy and from its node; return the node, if it is alive."""
        if flight.phase is Phase.QUEUED:
            if flight.in_policy:
                self._policy.withdraw(flight.task)
            else:
                self.giving.forget(flight)
            return None
        if flight.in_policy:
            self._policy.ended(flight.task, self._clock.now(), made)
        return self._leave_node(flight)

    def _leave_node(self, flight: Flight) -> Member | None:
        member = self._membership.get(flight.node) if flight.node is not None else None
        if member is not None:
            member.backlog.remove(flight.id)
        return member

    def _close(
        self, flight: Flight, phase: Phase, end: image_pb2.GenerateResponse | ArgusError
    ) -> None:
        """Do the bookkeeping of every ending."""
        del self._flights[flight.id]
        self._quarantine.drop(flight)
        self._crowd.leave(flight.task.tenant)
        flight.finish(phase, end)
        self._counters(flight).ended(flight, phase)
        if not self._flights:
            self._empty.set()


def _always() -> bool:
    """Return that nobody else leads."""
    return True


def _nothing(*_: object) -> None:
    """Do nothing: nobody wants to know."""
