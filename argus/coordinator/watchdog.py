"""What time alone brings about: leases end, deadlines pass, hopes run out."""

from __future__ import annotations

from argus.clock import Clock
from argus.control.backlog import PATIENCE_S
from argus.control.router import takers
from argus.coordinator.dispatch import Dispatcher
from argus.coordinator.flight import Flight, Phase
from argus.coordinator.membership import Member, Membership, Trouble
from argus.coordinator.parts import Parts
from argus.errors import DeadlineError, InternalError, UnavailableError

OVERDUE_FACTOR = 10.0
"""A row that takes so many times what was predicted, and its patience, is made elsewhere."""
LATE_SHARE = 0.5
"""Of a lease: when checks are further apart, this process was stopped, and nodes were not heard."""


class Watchdog:
    """Checks everything that has a time limit; to be called regularly.

    Args:
        clock: where the time comes from.
        membership: the nodes.
        dispatcher: owns the requests.
        node_wait_s: how long an accepted request waits for a node when there is none.
    """

    def __init__(
        self, clock: Clock, membership: Membership, dispatcher: Dispatcher, node_wait_s: float
    ) -> None:
        self._clock = clock
        self._node_wait_s = node_wait_s
        self._membership = membership
        self._dispatcher = dispatcher
        self._parts = Parts(clock)
        self._checked_s = clock.now()

    def check(self) -> None:
        """Give up dead nodes, end requests that are too late, and send what can be sent."""
        now_s = self._clock.now()
        if now_s - self._checked_s > LATE_SHARE * self._membership.lease_s:
            self._membership.hear_all()
        self._checked_s = now_s
        with self._parts.part("the check of the nodes"):
            for member, trouble in self._membership.troubled():
                with self._parts.part("giving up a node"):
                    self._give_up(member, trouble)
        for flight in tuple(self._dispatcher.flights.values()):
            try:
                self._check_flight(flight, now_s)
            except Exception:
                self._parts.failed("the check of a request")
        for name, do in (
            ("forgetting old pictures", self._dispatcher.forget_old_results),
            ("the policy's plan", self._dispatcher.giving.plan),
            ("seeking places", self._dispatcher.giving.seek_places),
            ("giving out work", self._dispatcher.giving.pump),
        ):
            with self._parts.part(name):
                do()

    def _give_up(self, member: Member, trouble: Trouble) -> None:
        words = f"node {member.name} was given up: {trouble.reason}"
        # A node comes back after what may be the network's fault; one that is broken ends.
        member.close(InternalError(words) if trouble.broken else UnavailableError(words))
        died = trouble.died
        self._dispatcher.node_lost(member, trouble.reason, died=died, hung=died)

    def _check_flight(self, flight: Flight, now_s: float) -> None:
        """End a request that is late or deserted, or look whether it gets on."""
        if not flight.on_time(now_s):
            late = f"the image was not ready within {flight.request.deadline_s:g} s"
            self._dispatcher.abort(flight, Phase.FAILED, DeadlineError(late))
        elif self._dispatcher.cancel_if_deserted(flight):
            return
        elif flight.phase is Phase.QUEUED:
            self._check_stranded(flight, now_s)
        else:
            self._check_overdue(flight, now_s)

    def _check_overdue(self, flight: Flight, now_s: float) -> None:
        """Take a request from a node that does not get it done, whatever it says of it."""
        most_s = OVERDUE_FACTOR * flight.decision.predicted_finish_s
        most_s += PATIENCE_S + self._membership.lease_s
        if now_s - flight.sent_s > most_s:
            took = f"node {flight.node} did not make it within {most_s:.0f} s"
            self._dispatcher.take_away(flight, took)

    def _check_stranded(self, flight: Flight, now_s: float) -> None:
        """End a request that waits for nodes that do not come back."""
        nodes = [member.backlog for member in self._membership.members]
        if any(takers(offer, nodes) for offer in flight.offers):
            flight.stranded_s = None
        elif flight.stranded_s is None:
            flight.stranded_s = now_s
        elif now_s - flight.stranded_s > self._node_wait_s:
            gone = UnavailableError("no node that could make this image came back")
            self._dispatcher.abort(flight, Phase.FAILED, gone)
