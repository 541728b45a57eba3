"""The cluster at one moment, and how it went since the look before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from argus.gateway.sampling import SHORTEST_S, Sample, earlier, sample_between
from argus.v1 import admin_pb2


@dataclass(frozen=True, slots=True)
class Moment:
    """What `argus top` shows.

    Attributes:
        server: HOST:PORT of the coordinator.
        at: when it was seen.
        status: what the coordinator said.
        sample: rates and shares since the look before.
        answered_s: images per second by level.
        lookups: of the cache since the look before.
        near: of these, with a neighbour near enough to start from.
        error: why it does not answer now; empty while it does.
    """

    server: str
    at: datetime
    status: admin_pb2.GetStatusResponse
    sample: Sample
    answered_s: Mapping[str, float]
    lookups: int
    near: int
    error: str = ""

    def lost(self, error: str) -> Moment:
        """Return the same, last seen, of a coordinator that does not answer now."""
        return replace(self, error=error)


def moment_between(
    before: admin_pb2.GetStatusResponse,
    after: admin_pb2.GetStatusResponse,
    seconds: float,
    server: str,
) -> Moment:
    """Return the moment of `after`, which came `seconds` after `before`."""
    then = earlier(before, after)
    counts = {level.name: level.answered for level in then.levels}
    per_s = 1.0 / max(seconds, SHORTEST_S)
    return Moment(
        server=server,
        at=datetime.now(UTC),
        status=after,
        sample=sample_between(before, after, 0.0, seconds),
        answered_s={
            level.name: max(0, level.answered - counts.get(level.name, 0)) * per_s
            for level in after.levels
        },
        lookups=after.cache.lookups - then.cache.lookups,
        near=after.cache.near - then.cache.near,
    )


def described(moment: Moment) -> dict[str, Any]:
    """Return a moment ready for JSON, for scripts."""
    status, sample = moment.status, asdict(moment.sample)
    del sample["at_s"], sample["in_flight"], sample["queued"], sample["lanes"]
    return {
        "time": moment.at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "server": moment.server,
        "reachable": not moment.error,
        "error": moment.error or None,
        "uptime_s": status.uptime_s,
        "in_flight": status.in_flight,
        "queued": status.queued,
        "capacity": status.capacity,
        "lanes": moment.sample.lanes,
        "max_lanes": sum(node.hello.max_lanes for node in status.nodes),
        **sample,
        "price": status.policy.price if status.policy.HasField("price") else None,
        "load": status.policy.load,
        "policy": status.policy.name,
        "nodes": [_node(node) for node in status.nodes],
        "levels": [
            {
                "name": level.name,
                "variant": level.variant,
                "quality": level.quality,
                "answered": level.answered,
                "answered_s": moment.answered_s[level.name],
            }
            for level in status.levels
        ],
        "cache": {
            "entries": status.cache.entries,
            "lookups": moment.lookups,
            "near": moment.near,
            "bytes_used": cache_bytes(status),
        }
        if status.HasField("cache")
        else None,
    }


def cache_bytes(status: admin_pb2.GetStatusResponse) -> int:
    """Return the bytes of states that all nodes hold, those on a shared server left out."""
    return sum(
        tier.bytes_used
        for node in status.nodes
        for tier in node.heartbeat.cache
        if tier.tier != "server"
    )


def resident(node: admin_pb2.NodeStatus) -> list[str]:
    """Return the variants whose weights are on the device; all it has where it does not say."""
    return list(node.heartbeat.resident) or [v.variant.name for v in node.hello.variants]


def parked(node: admin_pb2.NodeStatus) -> list[str]:
    """Return the variants whose weights are not on the device."""
    there = resident(node)
    return [v.variant.name for v in node.hello.variants if v.variant.name not in there]


def _node(node: admin_pb2.NodeStatus) -> dict[str, Any]:
    hello, beat = node.hello, node.heartbeat
    return {
        "name": hello.node,
        "device": hello.device,
        "draining": node.draining,
        "lanes": beat.lanes,
        "max_lanes": hello.max_lanes,
        "rows": beat.rows,
        "slots": hello.slots,
        "waiting": beat.waiting,
        "decode_waiting": beat.decode_waiting,
        "backlog_s": node.backlog_s,
        "slowness": beat.slowness,
        "resident": resident(node),
        "parked": parked(node),
        "heartbeat_age_s": node.heartbeat_age_s,
    }
