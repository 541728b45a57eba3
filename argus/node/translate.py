"""Engine events and statistics as messages."""

from __future__ import annotations

from collections.abc import Sequence

from argus.engine.events import (
    FailureReason,
    RowDone,
    RowFailed,
    RowPreview,
    RowStarted,
    RowStep,
    RowWarning,
)
from argus.engine.stats import EngineStats
from argus.errors import (
    ArgusError,
    InvalidArgumentError,
    NotFoundError,
    OverloadedError,
    UnavailableError,
)
from argus.histogram import Spread
from argus.v1 import cluster_pb2, image_pb2

_REASONS = {
    FailureReason.INVALID: cluster_pb2.WORK_FAILURE_INVALID,
    FailureReason.LATE: cluster_pb2.WORK_FAILURE_LATE,
    FailureReason.FULL: cluster_pb2.WORK_FAILURE_FULL,
    FailureReason.INTERNAL: cluster_pb2.WORK_FAILURE_INTERNAL,
    FailureReason.CANCELLED: cluster_pb2.WORK_FAILURE_CANCELLED,
    FailureReason.DRAINING: cluster_pb2.WORK_FAILURE_DRAINING,
}


Reported = RowStarted | RowStep | RowPreview | RowWarning | RowDone | RowFailed
"""Events that the coordinator hears of; states stay with the node."""


def event_message(request_id: str, attempt: int, event: Reported) -> cluster_pb2.JoinRequest:
    """Return the message that carries an engine event."""
    work = cluster_pb2.WorkEvent(request_id=request_id, attempt=attempt)
    if isinstance(event, RowStarted):
        work.started.waited_s = event.waited_s
        work.started.skipped = event.skipped
    elif isinstance(event, RowStep):
        step = image_pb2.StepProgress(step=event.step, steps=event.steps, lanes=event.lanes)
        work.step.CopyFrom(step)
    elif isinstance(event, RowPreview):
        work.preview.CopyFrom(image_pb2.Preview(step=event.step, data=event.data))
    elif isinstance(event, RowWarning):
        work.warning.CopyFrom(image_pb2.Warning(code=event.code, message=event.message))
    elif isinstance(event, RowDone):
        work.done.CopyFrom(
            cluster_pb2.WorkDone(
                data=event.data,
                running_s=event.running_s,
                max_lanes=event.max_lanes,
                forwards=event.forwards,
            )
        )
    else:
        work.failed.CopyFrom(
            cluster_pb2.WorkFailed(reason=_REASONS[event.reason], message=event.message)
        )
    return cluster_pb2.JoinRequest(event=work)


def refusal(error: ArgusError) -> RowFailed:
    """Return the event for a row that the engine did not take."""
    if isinstance(error, OverloadedError):
        return RowFailed(FailureReason.FULL, str(error))
    if isinstance(error, UnavailableError):
        return RowFailed(FailureReason.DRAINING, str(error))
    if isinstance(error, InvalidArgumentError | NotFoundError):
        return RowFailed(FailureReason.INVALID, str(error))
    return RowFailed(FailureReason.INTERNAL, str(error))


def heartbeat_message(
    sequence: int, stats: EngineStats, cache: Sequence[cluster_pb2.CacheTier] = ()
) -> cluster_pb2.JoinRequest:
    """Return the heartbeat for a moment of the engine and of the cache's tiers."""
    return cluster_pb2.JoinRequest(
        heartbeat=cluster_pb2.Heartbeat(
            sequence=sequence,
            rows=stats.rows,
            waiting=stats.waiting,
            lanes=stats.lanes,
            peak_lanes=stats.peak_lanes,
            slots_free=stats.slots_free,
            device_idle_s=stats.device_idle_s,
            steps_total=stats.steps_total,
            images_total=stats.images_total,
            resident=stats.resident,
            slowness=stats.slowness,
            cache=cache,
            decode_waiting=stats.decode.waiting,
            encoding=stats.decode.encoding,
            step_times=[
                cluster_pb2.StepTimes(
                    variant=name, seconds=_spread(times.seconds), lanes_total=times.lanes
                )
                for name, times in stats.step_times.items()
            ],
            decode_times=_spread(stats.decode.decode_s),
            encode_times=_spread(stats.decode.encode_s),
        )
    )


def moved_message(
    order: int, stats: EngineStats, refusal: str = "", seconds: float = 0.0
) -> cluster_pb2.JoinRequest:
    """Return the answer to an order to move variants.

    Args:
        order: which.
        stats: of the engine now.
        refusal: why nothing was moved; empty: it was carried out.
        seconds: that it took.
    """
    moved = cluster_pb2.VariantsMoved(
        order=order, refusal=refusal, resident=stats.resident, seconds=seconds
    )
    return cluster_pb2.JoinRequest(moved=moved)


def _spread(spread: Spread) -> cluster_pb2.Spread:
    return cluster_pb2.Spread(bounds=spread.bounds, counts=spread.counts, sum=spread.total)
