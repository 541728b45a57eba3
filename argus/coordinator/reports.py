"""What nodes report about rows, turned into the life of requests."""

from __future__ import annotations

import logging
import re

from argus.clock import Clock
from argus.coordinator.dispatch import Dispatcher
from argus.coordinator.flight import Flight, Phase
from argus.coordinator.membership import Member
from argus.coordinator.reuse import Reuse
from argus.errors import DeadlineError, InvalidArgumentError
from argus.rpc.convert import image_format_to_proto
from argus.v1 import cluster_pb2, image_pb2

log = logging.getLogger(__name__)

_FIELD = re.compile(r"([a-z_]{1,40}): ")


class Reports:
    """Applies work events; those of an earlier attempt are ignored.

    Args:
        clock: where the time comes from.
        dispatcher: owns the requests.
        reuse: hears of states that were used; None where nothing is cached.
    """

    def __init__(self, clock: Clock, dispatcher: Dispatcher, reuse: Reuse | None = None) -> None:
        self._clock = clock
        self._dispatcher = dispatcher
        self._reuse = reuse

    def take(self, member: Member, event: cluster_pb2.WorkEvent) -> None:
        """Apply one event of a node."""
        flight = self._dispatcher.flights.get(event.request_id)
        ours = flight is not None and flight.node == member.name
        if flight is None or not ours or flight.attempt != event.attempt:
            if event.WhichOneof("event") not in {"done", "failed"}:
                member.forget(event.request_id, event.attempt)
            return
        match event.WhichOneof("event"):
            case "started":
                self._started(member, flight, event.started)
            case "step":
                self._step(member, flight, event.step)
            case "preview":
                flight.tell(image_pb2.GenerateResponse(request_id=flight.id, preview=event.preview))
            case "warning":
                flight.tell(image_pb2.GenerateResponse(request_id=flight.id, warning=event.warning))
            case "done" if not event.done.data:
                self._dispatcher.replay(flight, f"node {member.name} sent an empty picture")
                self._dispatcher.giving.pump()
            case "done":
                member.moved(self._clock.now())
                self._dispatcher.complete(flight, self._image(member, flight, event.done))
                self._dispatcher.giving.pump()
            case "failed":
                member.moved(self._clock.now())
                self._failed(member, flight, event.failed)
                self._dispatcher.giving.pump()

    def _started(self, member: Member, flight: Flight, report: cluster_pb2.WorkStarted) -> None:
        member.backlog.start(flight.id)
        if flight.phase is not Phase.RUNNING:
            member.moved(self._clock.now())
        flight.start(self._clock.now())
        self._note_state(member, flight, report)
        offer = flight.made_at
        started = image_pb2.Started(
            node=member.name,
            variant=flight.row.variant,
            level=offer.level.name,
            steps=offer.steps - offer.skip,
            attempt=flight.losses + 1,
        )
        flight.tell(image_pb2.GenerateResponse(request_id=flight.id, started=started))

    def _step(self, member: Member, flight: Flight, report: image_pb2.StepProgress) -> None:
        """Note a step that goes on from the last one.

        Raises:
            InvalidArgumentError: there is no such step: the node is broken.
        """
        offer = flight.decision.offer
        most = max(offer.steps, offer.row.forwards, offer.whole.forwards)
        if report.step > most:
            raise InvalidArgumentError("step", f"request {flight.id} has {most}, not {report.step}")
        if report.step <= flight.step:
            return
        flight.step = report.step
        member.moved(self._clock.now())
        member.backlog.progress(flight.id, report.step)
        flight.tell(image_pb2.GenerateResponse(request_id=flight.id, step=report))

    def _note_state(self, member: Member, flight: Flight, report: cluster_pb2.WorkStarted) -> None:
        """Account for the state that a row was to start from."""
        offer, counters = flight.decision.offer, self._dispatcher.counters
        if offer.near is None:
            return
        self._dispatcher.policy.fetched(flight.task, bool(report.skipped))
        if not report.skipped:
            flight.missed = True
            counters.state_misses += 1
            member.backlog.reshape(flight.id, offer.whole)
            return
        counters.reused += 1
        counters.steps_saved += offer.skip
        if self._reuse is not None:
            self._reuse.used(offer.near.key, report.state_tier, report.state_s)

    def _failed(self, member: Member, flight: Flight, failed: cluster_pb2.WorkFailed) -> None:
        match failed.reason:
            case cluster_pb2.WORK_FAILURE_INVALID:
                self._dispatcher.fail(flight, _invalid(failed.message))
            case cluster_pb2.WORK_FAILURE_LATE:
                self._dispatcher.fail(flight, DeadlineError(failed.message or "too late"))
            case cluster_pb2.WORK_FAILURE_FULL:
                member.backlog.full = True
                self._dispatcher.put_back(flight)
            case cluster_pb2.WORK_FAILURE_DRAINING:
                member.backlog.draining = True
                self._dispatcher.put_back(flight)
            case _:
                log.warning(
                    "node %s failed %s: %s",
                    *(member.name, flight.id, failed.message),
                    extra={"request_id": flight.id, "node": member.name, "attempt": flight.attempt},
                )
                self._dispatcher.replay(flight, f"node {member.name}: {failed.message}")

    def _image(
        self, member: Member, flight: Flight, done: cluster_pb2.WorkDone
    ) -> image_pb2.GenerateResponse:
        now_s = self._clock.now()
        offer = flight.made_at
        started_s = flight.started_s if flight.phase is Phase.RUNNING else None
        image = image_pb2.Image(
            data=done.data,
            format=image_format_to_proto(flight.request.format),
            width=offer.row.width,
            height=offer.row.height,
            seed=flight.seed,
            variant=offer.row.variant,
            level=offer.level.name,
            sampler=offer.sampler,
            steps=offer.steps - offer.skip,
            skipped_steps=max(0, offer.reference_steps - offer.steps + offer.skip),
            guidance=offer.guidance,
            predicted_quality=offer.quality,
            node=member.name,
            queued_s=(now_s if started_s is None else started_s) - flight.accepted_s,
            running_s=done.running_s,
            total_s=now_s - flight.accepted_s,
            max_lanes=done.max_lanes,
            attempts=flight.losses + 1,
            similarity=offer.near.similarity if offer.near else 0.0,
        )
        return image_pb2.GenerateResponse(request_id=flight.id, image=image)


def _invalid(message: str) -> InvalidArgumentError:
    """Return the error for a row the node calls wrong; the field stands before a colon."""
    found = _FIELD.match(message)
    if found is None:
        return InvalidArgumentError("request", message or "the node cannot run it")
    return InvalidArgumentError(found[1], message[found.end() :])
