"""Rows that nodes bring along from an earlier stream, or from another coordinator."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from argus.clock import Clock
from argus.config import CoordinatorConfig
from argus.control.offers import Offer
from argus.control.predictor import QualityPredictor
from argus.control.router import Decision
from argus.coordinator.catalog import Catalog
from argus.coordinator.claims import ClaimReader
from argus.coordinator.dispatch import Dispatcher
from argus.coordinator.flight import Flight, Phase
from argus.coordinator.membership import Member
from argus.coordinator.results import check_same
from argus.errors import ArgusError, InvalidArgumentError
from argus.rpc.convert_cluster import claimed_request_from_proto
from argus.v1 import cluster_pb2

log = logging.getLogger(__name__)


class Adoption:
    """Decides what becomes of each row that a node brings along.

    A row whose request is known here goes on, unless another node has begun the same by now. One
    of a request that is not known was given out by another coordinator: it goes on, and a client
    that asks again with the same id finds it. Its picture, if it is finished, is remembered.

    Args:
        clock: where the time comes from.
        config: how long rows wait for their clients.
        dispatcher: owns the requests.
        catalog: what can be asked for.
        predictor: of the levels' quality.
        run: name of this run of the coordinator.
    """

    def __init__(
        self,
        clock: Clock,
        config: CoordinatorConfig,
        dispatcher: Dispatcher,
        catalog: Catalog,
        predictor: QualityPredictor,
        run: str,
    ) -> None:
        self._clock = clock
        self._config = config
        self._dispatcher = dispatcher
        self._catalog = catalog
        self._predictor = predictor
        self.run = run

    def take(
        self, member: Member, rows: Sequence[cluster_pb2.HeldRow]
    ) -> list[cluster_pb2.RowName]:
        """Take up the rows of a node that has just joined; return those that are not wanted."""
        dropped = [row for row in self._in_turn(rows) if not self._take_one(member, row)]
        if rows:
            log.info(
                "node %s brought %d rows along, %d are taken up",
                member.name,
                len(rows),
                len(rows) - len(dropped),
            )
        return [
            cluster_pb2.RowName(request_id=row.work.request_id, attempt=row.work.attempt)
            for row in dropped
        ]

    def _in_turn(self, rows: Iterable[cluster_pb2.HeldRow]) -> list[cluster_pb2.HeldRow]:
        """Return the rows, those with finished pictures first: they are better than any begun."""
        return sorted(rows, key=lambda row: (not row.bytes, -row.work.attempt))

    def _take_one(self, member: Member, row: cluster_pb2.HeldRow) -> bool:
        """Take a row up; return False where it is not wanted."""
        flight = self._dispatcher.flights.get(row.work.request_id)
        try:
            if flight is None:
                return self._adopt(member, row)
            return self._take_back(member, row, flight)
        except ArgusError as error:
            log.warning("a row that node %s brought along is dropped: %s", member.name, error)
            return False

    def _adopt(self, member: Member, row: cluster_pb2.HeldRow) -> bool:
        """Accept a request that another coordinator had accepted."""
        request_id = row.work.request_id
        if row.run == self.run or self._dispatcher.knows(request_id):
            return False  # it ended here, or was given up by its client
        if row.ended and not row.bytes:
            return False  # it failed; whoever still wants it asks again
        if row.bytes > self._config.result_bytes:
            return False
        now_s = self._clock.now()
        offer = self._offer(member, row)
        flight = self._reader().flight(row, self._dispatcher.accepted, now_s)
        # Its client may have had the picture already: it is counted where it was accepted.
        flight.counted = not row.ended
        flight.left_at_s, flight.task.held = now_s, True
        flight.grace_s = self._config.adopted_grace_s
        self._bring(member, row, flight, offer)
        return True

    def _take_back(self, member: Member, row: cluster_pb2.HeldRow, flight: Flight) -> bool:
        """Let a known request go on with the row that a node brings along."""
        if flight.node == member.name:
            return False  # a second row of the same request; the first is taken up
        if flight.phase is Phase.RUNNING and not row.bytes:
            return False  # begun elsewhere
        if row.ended and not row.bytes and row.run != self.run:
            return False  # it failed under another coordinator, and is tried anew here
        offer = self._offer(member, row)
        if row.run != self.run:
            check_same(flight.request, claimed_request_from_proto(row.work))
            flight.losses = max(flight.losses, row.work.claim.losses)
        else:
            flight.find(member.name)
            if not row.bytes and not self._dispatcher.giving.may_be_on(flight, member.name):
                return False  # it waits for a node of its own
        flight.task.avoid.discard(member.name)
        flight.seed = row.work.seed
        self._bring(member, row, flight, offer)
        return True

    def _offer(self, member: Member, row: cluster_pb2.HeldRow) -> Offer:
        """Return what a row is.

        Raises:
            InvalidArgumentError: it makes no sense on this node.
        """
        offer = self._reader().offer(row.work)
        if offer.row.variant not in member.backlog.variants:
            raise InvalidArgumentError("variant", f"the node does not have {offer.row.variant!r}")
        return offer

    def _bring(
        self, member: Member, row: cluster_pb2.HeldRow, flight: Flight, offer: Offer
    ) -> None:
        now_s = self._clock.now()
        has_begun = row.HasField("started")
        missed = has_begun and offer.near is not None and not row.started.skipped
        finish_s = member.backlog.idle_s(offer.row)
        decision = Decision(offer, member.name, finish_s)
        self._dispatcher.bring(flight, member, decision, row.work.attempt)
        flight.missed = missed
        if missed:
            member.backlog.reshape(flight.id, offer.whole)
        if row.HasField("started"):
            member.backlog.start(flight.id)
            began_s = flight.accepted_s + row.work.claim.age_s + row.started.waited_s
            flight.start(began_s if flight.accepted_s <= began_s <= now_s else now_s)
        if row.HasField("step"):
            member.backlog.progress(flight.id, row.step.step)
        if row.ended:
            member.backlog.progress(flight.id, flight.row.forwards)

    def _reader(self) -> ClaimReader:
        return ClaimReader(self._catalog.ladder, self._catalog.variants, self._predictor)
