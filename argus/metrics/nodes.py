"""Metrics of nodes, from what their heartbeats say: shown by the coordinator for all of them, and
by a node for itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from prometheus_client import Metric

from argus.histogram import Spread
from argus.metrics.families import counters, gauges, histograms
from argus.v1 import cluster_pb2

NODE = ("node",)
TIER = ("node", "tier")
VARIANT = ("node", "variant")


@dataclass(frozen=True, slots=True)
class NodeMoment:
    """A node at one moment: its name, limits, and last heartbeat."""

    name: str
    slots: int
    max_lanes: int
    beat: cluster_pb2.Heartbeat


Read = Callable[[NodeMoment], float]

GAUGES: tuple[tuple[str, str, Read], ...] = (
    ("argus_node_rows", "Rows that step or are being decoded.", lambda n: n.beat.rows),
    ("argus_node_waiting_rows", "Rows that wait for a slot.", lambda n: n.beat.waiting),
    ("argus_node_lanes", "Lanes of the last forward; 0: idle.", lambda n: n.beat.lanes),
    (
        "argus_node_peak_lanes",
        "Most lanes of a forward in the last ten seconds.",
        lambda n: n.beat.peak_lanes,
    ),
    ("argus_node_lanes_limit", "Lanes of the widest forward.", lambda n: n.max_lanes),
    ("argus_node_slots", "Rows that can step at once.", lambda n: n.slots),
    ("argus_node_slots_used", "Slots that are taken.", lambda n: n.slots - n.beat.slots_free),
    (
        "argus_node_slowness_ratio",
        "Seconds that steps take lately, relative to warm-up.",
        lambda n: n.beat.slowness,
    ),
    (
        "argus_node_device_idle_seconds",
        "Seconds since the device thread last showed life.",
        lambda n: n.beat.device_idle_s,
    ),
    (
        "argus_node_decode_waiting",
        "Finished images and previews that wait for the decoder.",
        lambda n: n.beat.decode_waiting,
    ),
    (
        "argus_node_encoding",
        "Pictures that wait for an encoder or are in one.",
        lambda n: n.beat.encoding,
    ),
)

COUNTERS: tuple[tuple[str, str, Read], ...] = (
    ("argus_node_forwards", "Forwards of denoisers.", lambda n: n.beat.steps_total),
    ("argus_node_images", "Images finished.", lambda n: n.beat.images_total),
)

TIER_GAUGES: tuple[tuple[str, str, Callable[[cluster_pb2.CacheTier], float]], ...] = (
    ("argus_node_cache_entries", "Cached prompts held.", lambda t: t.entries),
    ("argus_node_cache_bytes", "Bytes of their states.", lambda t: t.bytes_used),
    ("argus_node_cache_limit_bytes", "Most bytes that may be held.", lambda t: t.bytes_budget),
)

TIER_COUNTERS: tuple[tuple[str, str, Callable[[cluster_pb2.CacheTier], float]], ...] = (
    ("argus_node_cache_hits", "States found.", lambda t: t.hits),
    ("argus_node_cache_misses", "States that were not there.", lambda t: t.misses),
    ("argus_node_cache_corrupt", "States found damaged, and dropped.", lambda t: t.corrupt),
    ("argus_node_cache_errors", "Reads and writes that failed.", lambda t: t.errors),
    ("argus_node_cache_writes", "Entries written.", lambda t: t.writes),
    ("argus_node_cache_evicted", "Entries that made room for others.", lambda t: t.evicted),
    ("argus_node_cache_expired", "Entries that were too old.", lambda t: t.expired),
)


def node_families(nodes: Sequence[NodeMoment]) -> Iterable[Metric]:
    """Iterate over the families of these nodes."""
    for name, text, read in GAUGES:
        yield gauges(name, text, NODE, [((n.name,), read(n)) for n in nodes])
    for name, text, read in COUNTERS:
        yield counters(name, text, NODE, [((n.name,), read(n)) for n in nodes])
    yield from _variants(nodes)
    yield from _pictures(nodes)
    yield from _tiers(nodes)


def _variants(nodes: Sequence[NodeMoment]) -> Iterable[Metric]:
    steps = [(node.name, times) for node in nodes for times in node.beat.step_times]
    yield gauges(
        "argus_node_resident",
        "1 for each variant whose weights are on the device.",
        VARIANT,
        [((n.name, variant), 1) for n in nodes for variant in n.beat.resident],
    )
    yield histograms(
        "argus_node_step_seconds",
        "Seconds of denoising steps.",
        VARIANT,
        {(name, t.variant): spread_of(t.seconds) for name, t in steps},
    )
    yield counters(
        "argus_node_step_lanes",
        "Lanes of those steps summed, padding not counted.",
        VARIANT,
        [((name, t.variant), t.lanes_total) for name, t in steps],
    )


def _pictures(nodes: Sequence[NodeMoment]) -> Iterable[Metric]:
    parts: tuple[tuple[str, str, Callable[[NodeMoment], cluster_pb2.Spread]], ...] = (
        ("argus_node_decode_seconds", "Seconds of decoding calls.", lambda n: n.beat.decode_times),
        (
            "argus_node_encode_seconds",
            "Seconds of encoding pictures.",
            lambda n: n.beat.encode_times,
        ),
    )
    for name, text, read in parts:
        # A node of an older version says nothing of them.
        said = {(n.name,): spread_of(read(n)) for n in nodes if read(n).counts}
        yield histograms(name, text, NODE, said)


def _tiers(nodes: Sequence[NodeMoment]) -> Iterable[Metric]:
    tiers = [((node.name, tier.tier), tier) for node in nodes for tier in node.beat.cache]
    for name, text, read in TIER_GAUGES:
        yield gauges(name, text, TIER, [(key, read(tier)) for key, tier in tiers])
    for name, text, read in TIER_COUNTERS:
        yield counters(name, text, TIER, [(key, read(tier)) for key, tier in tiers])


def spread_of(message: cluster_pb2.Spread) -> Spread:
    """Return what a message says; one whose numbers do not fit together says nothing."""
    bounds = tuple(message.bounds)
    if len(message.counts) != len(bounds) + 1:
        return Spread((), (0,), 0.0)
    return Spread(bounds, tuple(message.counts), message.sum)
