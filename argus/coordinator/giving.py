"""What the policy wants done, carried out: rows given to nodes, and requests given up."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping

from argus.clock import Clock
from argus.control.backlog import NodeBacklog, due_s
from argus.control.policy import Policy, Start
from argus.control.router import Decision
from argus.coordinator.catalog import Catalog
from argus.coordinator.claims import claim_of
from argus.coordinator.flight import Flight
from argus.coordinator.membership import Membership
from argus.coordinator.parts import Parts
from argus.coordinator.quarantine import Quarantine
from argus.coordinator.reuse import Reuse
from argus.errors import ArgusError, DeadlineError, InternalError, OverloadedError, UnavailableError
from argus.rpc.convert_cluster import work_to_proto
from argus.v1 import cluster_pb2


class Giving:
    """Asks the policy and gives out what it decides.

    Args:
        clock: where the time comes from.
        membership: the nodes.
        catalog: what can be asked for.
        policy: decides on level, node and order.
        reuse: what rows leave behind for later ones; None where nothing is cached.
        quarantine: of requests that may kill nodes.
        flights: requests in flight by id.
        close: ends one of them with an error.
        leads: whether requests may be given out: no other coordinator leads.

    Attributes:
        strays: queued requests that the policy does not know: nodes brought them along and were
            lost.
    """

    def __init__(
        self,
        clock: Clock,
        membership: Membership,
        catalog: Catalog,
        policy: Policy,
        reuse: Reuse | None,
        quarantine: Quarantine,
        flights: Mapping[str, Flight],
        close: Callable[[Flight, ArgusError], None],
        leads: Callable[[], bool],
    ) -> None:
        self._clock = clock
        self._membership = membership
        self._catalog = catalog
        self._policy = policy
        self._reuse = reuse
        self._quarantine = quarantine
        self._flights = flights
        self._close = close
        self._leads = leads
        self._parts = Parts(clock)
        self._plan_at_s = -math.inf
        self.strays: list[Flight] = []
        self._pumps: int | None = None
        """Times that `pump` waits to be done; None: it does not wait."""

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Ask the policy once, after all that happens inside the block, what it wants done.

        What goes wrong with that is logged: it is not the fault of what happened inside.
        """
        if self._pumps is not None:
            yield
            return
        self._pumps = 0
        try:
            yield
        finally:
            wanted, self._pumps = self._pumps, None
            if wanted:
                self.give_out()

    def give_out(self) -> None:
        """Do as `pump`, and log what goes wrong: the next call that pumps tries again."""
        with self._parts.part("giving out work"):
            self.pump()

    def pump(self) -> None:
        """Do what the policy wants done now; nothing where another coordinator may lead."""
        if self._pumps is not None:
            self._pumps += 1
            return
        if not self._leads():
            return
        now_s, fleet = self._clock.now(), self._membership.fleet
        if self._quarantine:
            self._quarantine.let_go(self._open_nodes(), self._membership.heard_s)
        for act in self._policy.dispatch(fleet, now_s):
            flight = self._flights[act.task.id]
            if not isinstance(act, Start):
                self._close(flight, act.error)
            elif self.may_be_on(flight, act.decision.node):
                self._send(flight, act.decision)
            else:
                # Some policies bind what waits to a node, and ask no more what it is to avoid.
                self._policy.put_back(flight.task)
                self._quarantine.take(flight)

    def plan(self) -> None:
        """Let the policy plan when the time that it named has come."""
        now_s = self._clock.now()
        if now_s >= self._plan_at_s:
            self._plan_at_s = self._policy.plan(self._membership.fleet, now_s)

    def _send(self, flight: Flight, decision: Decision) -> None:
        member = self._membership.get(decision.node)
        if member is None:
            raise InternalError(f"the policy chose node {decision.node}, which is gone")
        flight.assign(decision, self._clock.now())
        if not len(member.backlog):
            member.moved(self._clock.now())
        if self._reuse is not None:
            variant = self._catalog.variants[flight.row.variant]
            flight.keep_key, flight.checkpoints = self._reuse.keep(
                flight.request, decision.offer, variant, self._catalog.ladder
            )
        now_s = self._clock.now()
        member.backlog.add(flight.id, flight.row, due_s(now_s, flight.deadline_at_s))
        work = work_to_proto(flight.resolved(), flight.remaining_s(now_s), claim_of(flight, now_s))
        work.traceparent = flight.trace.traceparent
        member.send(cluster_pb2.JoinResponse(work=work))
        if self._quarantine:
            self._quarantine.sent(flight, self._open_nodes())

    def _open_nodes(self) -> list[NodeBacklog]:
        return [node for node in self._membership.fleet if not node.draining]

    def seek_places(self) -> None:
        """Let the policy have the requests that it does not know and no node has."""
        now_s, waiting = self._clock.now(), deque(self.strays)
        self.strays = []
        try:
            while waiting:
                self._seek_place(waiting.popleft(), now_s)
        finally:
            # Whatever went wrong with one, the others are looked at next, before that one.
            self.strays = [*waiting, *self.strays]

    def _seek_place(self, flight: Flight, now_s: float) -> None:
        try:
            decision = self._policy.admit(flight.task, self._membership.fleet, now_s)
        except DeadlineError as error:
            self._close(flight, error)
        except (UnavailableError, OverloadedError):
            self.strays.append(flight)
        except Exception:
            self.strays.append(flight)
            raise
        else:
            flight.task.decision, flight.in_policy = decision, True
            if flight.strikes:
                self._quarantine.take(flight)

    def may_be_on(self, flight: Flight, node: str) -> bool:
        """Return whether a node may have a request: of those that may kill it, it has one."""
        return not flight.strikes or self._quarantine.may_be_on(flight, node)

    def forget(self, flight: Flight) -> None:
        """Seek no place any more for a request that was a stray."""
        if flight in self.strays:
            self.strays.remove(flight)
