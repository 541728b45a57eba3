"""The door for node daemons."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from argus.auth.keys import Identity
from argus.clock import Clock
from argus.config import CoordinatorConfig
from argus.coordinator.adoption import Adoption
from argus.coordinator.catalog import Catalog
from argus.coordinator.dispatch import Dispatcher
from argus.coordinator.membership import Member, Membership
from argus.coordinator.prompts import PromptReader
from argus.coordinator.reports import Reports
from argus.coordinator.residence import Residence
from argus.coordinator.reuse import Reuse
from argus.coordinator.settling import Settling
from argus.errors import (
    ArgusError,
    DeadlineError,
    InternalError,
    InvalidArgumentError,
    UnauthenticatedError,
)
from argus.rpc.bundles import unbundle
from argus.rpc.convert_cluster import node_info_from_proto
from argus.rpc.guard import Guard, caller
from argus.rpc.interceptors import Context
from argus.v1 import cluster_pb2, cluster_pb2_grpc

log = logging.getLogger(__name__)

Requests = AsyncIterator[cluster_pb2.JoinRequest]


class ClusterService(cluster_pb2_grpc.ClusterServiceServicer):
    """Implements argus.v1.ClusterService: one call for each member.

    Args:
        clock: where the time comes from.
        config: lease and heartbeat interval.
        membership: the nodes.
        catalog: learns the nodes' variants.
        dispatcher: owns the requests.
        adoption: takes up the rows that nodes bring along.
        settling: hears of nodes that have come.
        epoch: returns the number of the present leadership; 0: there is no stand-by. Raises
            UnavailableError where another coordinator leads, or soon will.
        on_change: called when a node has come, gone or begun to drain.
        guard: knows whose keys still hold.
        reuse: hears of what nodes cache; None where nothing is.
        prompts: hears of the variants; None where only levels' means are known.
        residence: hears of what nodes hold; None where nothing is moved.
    """

    def __init__(
        self,
        clock: Clock,
        config: CoordinatorConfig,
        membership: Membership,
        catalog: Catalog,
        dispatcher: Dispatcher,
        adoption: Adoption,
        settling: Settling,
        epoch: Callable[[], int],
        on_change: Callable[[], Awaitable[None]],
        guard: Guard,
        reuse: Reuse | None = None,
        prompts: PromptReader | None = None,
        residence: Residence | None = None,
    ) -> None:
        self._clock = clock
        self._config = config
        self._membership = membership
        self._catalog = catalog
        self._dispatcher = dispatcher
        self._adoption = adoption
        self._settling = settling
        self._epoch = epoch
        self._pulsed_s = clock.now()
        self._reports = Reports(clock, dispatcher, reuse)
        self._reuse = reuse
        self._prompts = prompts
        self._residence = residence
        self._on_change = on_change
        self._guard = guard
        self._callers: dict[Member, Identity] = {}

    async def Join(  # noqa: N802 - gRPC's name
        self, request_iterator: Requests, context: Context
    ) -> AsyncIterator[cluster_pb2.JoinResponse]:
        """Serve one node until it leaves, fails or is given up."""
        identity = caller()
        member, held = await self._welcome(request_iterator, identity)
        self._callers[member] = identity
        reader = asyncio.create_task(self._read(member, request_iterator))
        try:
            dropped = self._adoption.take(member, held)
            self._settling.joined(member.name)
            welcome = cluster_pb2.Welcome(
                lease_s=self._config.lease_s,
                heartbeat_interval_s=self._config.heartbeat_interval_s,
                takes_rows=True,
                dropped=dropped,
                run=self._adoption.run,
                epoch=self._epoch(),
                pulse_interval_s=self._config.heartbeat_interval_s,
                reads_bundles=True,
            )
            yield cluster_pb2.JoinResponse(welcome=welcome)
            await self._on_change()
            self._dispatcher.giving.give_out()
            while (message := await member.next_message()) is not None:
                yield message
            if member.end_error is not None:
                raise member.end_error
        finally:
            del self._callers[member]
            self._dispatcher.node_lost(member, "its connection ended")
            reader.cancel()
            await asyncio.wait([reader])
            await self._on_change()

    def turn_out(self) -> None:
        """End the streams of nodes whose keys were revoked or have expired since they joined."""
        for member, identity in self._callers.items():
            if not self._guard.still_holds(identity):
                refusal = UnauthenticatedError(f"API key {identity.key_id} does not hold any more")
                member.close(refusal)

    def pulse(self) -> None:
        """Give nodes that were told nothing lately a sign of life, from time to time."""
        now_s = self._clock.now()
        if now_s - self._pulsed_s < self._config.heartbeat_interval_s:
            return
        self._pulsed_s = now_s
        for member in self._membership.members:
            if member.hello.keeps_rows and member.outbox_empty:
                member.send(cluster_pb2.JoinResponse(pulse=cluster_pb2.Pulse()))

    async def _welcome(
        self, requests: Requests, identity: Identity
    ) -> tuple[Member, list[cluster_pb2.HeldRow]]:
        """Return the member that the first message makes, and the rows that it brings along."""
        try:
            async with asyncio.timeout(self._config.lease_s):
                first = await anext(requests, None)
        except TimeoutError as error:
            raise DeadlineError(f"no hello within {self._config.lease_s:g} s") from error
        if first is None or first.WhichOneof("message") != "hello":
            raise InvalidArgumentError("message", "the first message must be a hello")
        self._epoch()  # The lead may have been lost since the call was let in.
        info = node_info_from_proto(first.hello)
        identity.check_node(info.name)
        self._membership.check_free(info.name)
        self._catalog.learn(info, self._membership.holds)
        if self._prompts is not None:
            self._prompts.meet(info.variants)
        log.info(
            "node %s joined: %s, %d slots",
            *(info.name, info.device_name, info.slots),
            extra={"node": info.name},
        )
        held = list(first.hello.held)
        # What is shown of a node must not hold the prompts of its rows.
        first.hello.ClearField("held")
        member = self._membership.join(info, first.hello)
        if self._residence is not None:
            self._residence.joined(member)
        return member, held

    async def _read(self, member: Member, requests: Requests) -> None:
        """Take in what the node says; its end ends the stream."""
        error: ArgusError | None = None
        try:
            async for request in requests:
                with self._dispatcher.giving.together():
                    # Nothing is awaited here: until the block ends, nobody is given work.
                    changed = [self._take(member, each) for each in unbundle(request)]
                if any(changed):
                    await self._on_change()
        except ArgusError as caught:
            error = caught
        except Exception:
            said = {"node": member.name}
            log.exception("what node %s said could not be applied", member.name, extra=said)
            error = InternalError("a message could not be applied; the coordinator's log says why")
        finally:
            member.close(error)

    def _take(self, member: Member, request: cluster_pb2.JoinRequest) -> bool:
        """Apply one message; return whether the node has begun to drain.

        Raises:
            InvalidArgumentError: it is out of order, or of no known kind.
        """
        member.hear(self._clock.now())
        match request.WhichOneof("message"):
            case "heartbeat":
                member.beat(request.heartbeat, self._clock.now())
                if self._residence is not None:
                    self._residence.beat(member, request.heartbeat)
                self._dispatcher.giving.pump()
            case "event":
                self._reports.take(member, request.event)
            case "cache":
                self._take_cache(member, request.cache)
            case "moved":
                if self._residence is not None:
                    self._residence.moved(member, request.moved)
                self._dispatcher.giving.pump()
            case "draining":
                member.backlog.draining = True
                return True
            case other:
                raise InvalidArgumentError("message", f"{other or 'unknown'} is out of place")
        return False

    def _take_cache(self, member: Member, report: cluster_pb2.CacheReport) -> None:
        whole = member.take_cache(report)
        if self._reuse is not None and whole is not None:
            self._reuse.take(member.name, whole)
