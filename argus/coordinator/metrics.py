"""The coordinator's metrics, computed from its state when they are asked for.

A part that keeps figures of its own, such as a planner, adds them with `Metrics.add`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable

from prometheus_client import CollectorRegistry, Metric, ProcessCollector

import argus
from argus.clock import Clock
from argus.coordinator.catalog import Catalog
from argus.coordinator.counters import CAUSES, FULL
from argus.coordinator.dispatch import Dispatcher
from argus.coordinator.membership import Member, Membership
from argus.coordinator.reuse import Reuse
from argus.metrics.families import counter, counters, gauge, gauges, histogram
from argus.metrics.nodes import NODE, NodeMoment, node_families

Families = Callable[[], Iterable[Metric]]


class Metrics:
    """Puts the families together.

    Args:
        clock: where the time comes from; now is the start.
        capacity: most requests that may be in flight.
        dispatcher: owns the requests.
        catalog: what can be asked for.
        membership: the nodes.
        reuse: the cache; None where it is off.
    """

    def __init__(
        self,
        clock: Clock,
        capacity: int,
        dispatcher: Dispatcher,
        catalog: Catalog,
        membership: Membership,
        reuse: Reuse | None,
    ) -> None:
        self._clock = clock
        self._start_s = clock.now()
        self._capacity = capacity
        self._dispatcher = dispatcher
        self._catalog = catalog
        self._membership = membership
        self._reuse = reuse
        process = CollectorRegistry()
        ProcessCollector(registry=process)
        self._sources: list[Families] = [
            self._coordinator,
            self._requests,
            self._pictures,
            self._nodes,
            process.collect,
        ]

    def add(self, families: Families) -> None:
        """Show what `families` returns, too; it is called in the event loop and must not block."""
        self._sources.append(families)

    async def families(self) -> AsyncIterator[Metric]:
        """Iterate over all families, as things stand now."""
        for source in self._sources:
            for family in source():
                yield family
        if self._reuse is not None:
            for family in self._cache(self._reuse, await self._reuse.entries()):
                yield family

    def _coordinator(self) -> Iterable[Metric]:
        version = [((argus.__version__,), 1.0)]
        yield gauges("argus_build_info", "1, with the version.", ("version",), version)
        uptime_s = self._clock.now() - self._start_s
        yield gauge("argus_uptime_seconds", "Seconds since the coordinator started.", uptime_s)
        in_flight = len(self._dispatcher.flights)
        yield gauge("argus_requests_in_flight", "Requests accepted and not ended.", in_flight)
        yield gauge(
            "argus_requests_queued",
            "Requests in flight whose first step has not begun.",
            self._dispatcher.not_started,
        )
        yield gauge("argus_requests_in_flight_limit", "Most requests in flight.", self._capacity)

    def _requests(self) -> Iterable[Metric]:
        counts = self._dispatcher.counters
        yield counter("argus_requests_accepted", "Requests accepted.", counts.accepted)
        yield counter(
            "argus_requests_adopted",
            "Of those accepted, taken up from nodes that another coordinator had given them to.",
            counts.adopted,
        )
        yield counters(
            "argus_requests_refused",
            "Requests not accepted, by cause.",
            ("cause",),
            # Those that have not occurred are shown, too, so that a rate sees the first.
            [((c,), counts.refused_by_cause[c]) for c in (*CAUSES.values(), FULL, "other")],
        )
        yield counters(
            "argus_requests_ended",
            "Accepted requests that ended, by outcome.",
            ("outcome",),
            [
                (("answered",), counts.answered),
                (("cancelled",), counts.cancelled),
                (("failed",), counts.failed),
            ],
        )
        yield counter(
            "argus_requests_on_time",
            "Images before their deadline, or without one: their rate is the goodput.",
            counts.on_time,
        )
        yield counters(
            "argus_deadlines",
            "Accepted requests with a deadline that ended, by whether it was met; cancelled ones "
            "are left out.",
            ("result",),
            [(("met",), counts.deadline_met), (("missed",), counts.deadline_missed)],
        )
        yield counter(
            "argus_replays", "Rows started again since a node lost or failed them.", counts.replayed
        )

    def _pictures(self) -> Iterable[Metric]:
        counts = self._dispatcher.counters
        yield counters(
            "argus_images",
            "Images answered, by level and variant.",
            ("level", "variant"),
            [
                ((level.name, level.variant), counts.answered_by_level[level.name])
                for level in self._catalog.ladder.all
            ],
        )
        yield histogram(
            "argus_served_quality_ratio",
            "Predicted quality of images answered, relative to the reference level.",
            counts.quality.spread(),
        )
        yield counter(
            "argus_on_time_quality",
            "The same summed over the images that were on time.",
            counts.on_time_quality_sum,
        )
        yield histogram(
            "argus_request_queued_seconds",
            "Seconds from acceptance to the first step, of images answered.",
            counts.queued_s.spread(),
        )
        yield histogram(
            "argus_request_seconds",
            "Seconds from acceptance to the image, of images answered.",
            counts.total_s.spread(),
        )

    def _nodes(self) -> Iterable[Metric]:
        members = self._membership.members
        draining = sum(member.backlog.draining for member in members)
        yield gauges(
            "argus_nodes",
            "Live nodes, by whether they take work.",
            ("state",),
            [(("serving",), len(members) - draining), (("draining",), draining)],
        )
        now_s = self._clock.now()
        seen = [((m.name,), now_s - m.heartbeat_at_s) for m in members]
        yield gauges(
            "argus_node_heartbeat_age_seconds", "Seconds since the last heartbeat.", NODE, seen
        )
        yield gauges(
            "argus_node_backlog_seconds",
            "Predicted seconds until what the node has is done.",
            NODE,
            [((m.name,), m.backlog.drained_s()) for m in members],
        )
        yield gauges(
            "argus_node_assigned_rows",
            "Rows that the coordinator has sent to the node.",
            NODE,
            [((m.name,), len(m.backlog)) for m in members],
        )
        yield from node_families([_moment(member) for member in members])

    def _cache(self, reuse: Reuse, entries: int) -> Iterable[Metric]:
        counts = self._dispatcher.counters
        yield gauge("argus_cache_entries", "Cached prompts in the index.", entries)
        yield counter("argus_cache_lookups", "Look-ups for a near prompt.", reuse.lookups)
        yield counter("argus_cache_near", "Look-ups that found one near enough.", reuse.near)
        yield counter("argus_cache_reused", "Rows started from a cached state.", counts.reused)
        yield counter(
            "argus_cache_state_misses",
            "Rows whose state was missing, late or damaged, and that ran every step.",
            counts.state_misses,
        )
        yield counter(
            "argus_cache_steps_saved", "Steps not run because of states.", counts.steps_saved
        )
        quantiles = [
            ((tier, str(q)), reuse.fetches.quantile(tier, q) or 0.0)
            for tier in reuse.fetches.tiers()
            for q in (0.5, 0.99)
        ]
        yield gauges(
            "argus_cache_fetch_seconds",
            "Quantiles of the seconds that fetching a state took lately, by tier.",
            ("tier", "quantile"),
            quantiles,
        )


def _moment(member: Member) -> NodeMoment:
    return NodeMoment(member.name, member.info.slots, member.info.max_lanes, member.heartbeat)
