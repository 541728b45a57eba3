"""How a cluster went between two looks at its status."""

from __future__ import annotations

from dataclasses import dataclass

from argus.v1 import admin_pb2

SHORTEST_S = 1e-3


@dataclass(frozen=True, slots=True)
class Sample:
    """How things stood at one poll; rates are over the time since the one before.

    Attributes:
        at_s: when, on the clock of who asked.
        in_flight: requests accepted and not finished.
        queued: of these, not started.
        lanes: used, over all nodes.
        offered_s: requests that came, per second.
        answered_s: images per second.
        on_time_s: images in time, per second: the goodput.
        quality: mean predicted relative quality of the images since the last poll; None: none.
        on_time: share of the requests that ended since then and were in time; None: none ended.
    """

    at_s: float
    in_flight: int
    queued: int
    lanes: int
    offered_s: float
    answered_s: float
    on_time_s: float
    quality: float | None
    on_time: float | None


def earlier(
    before: admin_pb2.GetStatusResponse, after: admin_pb2.GetStatusResponse
) -> admin_pb2.GetStatusResponse:
    """Return `before`, or nothing counted yet where another coordinator has begun since."""
    return before if before.uptime_s <= after.uptime_s else admin_pb2.GetStatusResponse()


def sample_between(
    before: admin_pb2.GetStatusResponse,
    after: admin_pb2.GetStatusResponse,
    now_s: float,
    seconds: float,
) -> Sample:
    """Return how it went from `before` to `after`, which were `seconds` apart."""
    old, new = earlier(before, after).counters, after.counters
    answered = new.answered - old.answered
    ended = answered + new.failed - old.failed + new.refused - old.refused
    on_time = new.on_time - old.on_time
    offered = new.accepted - old.accepted + new.refused - old.refused
    per_s = 1.0 / max(seconds, SHORTEST_S)
    return Sample(
        at_s=now_s,
        in_flight=after.in_flight,
        queued=after.queued,
        lanes=sum(node.heartbeat.lanes for node in after.nodes),
        offered_s=offered * per_s,
        answered_s=answered * per_s,
        on_time_s=on_time * per_s,
        quality=(new.quality_sum - old.quality_sum) / answered if answered else None,
        on_time=on_time / ended if ended else None,
    )
