"""What live comparisons with the reference level have shown, as metrics."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Metric

from argus.control.drift import ALL
from argus.coordinator.shadow import Shadow
from argus.metrics.families import counter, counters, gauge, gauges

DIRECTIONS = {True: "worse", False: "better"}
"""Of pictures, against what was predicted of them."""


def shadow_families(shadow: Shadow) -> Iterable[Metric]:
    """Return the families of a watch of live pictures."""
    yield from _counted(shadow)
    drift = shadow.drift
    yield gauge("argus_quality_waiting", "Pictures that wait to be compared.", shadow.waiting)
    yield gauge(
        "argus_quality_scorer_up",
        "1 while pictures can be scored, 0 while they cannot.",
        0.0 if shadow.trouble else 1.0,
    )
    yield gauge(
        "argus_quality_residual_ratio",
        "Found less predicted relative quality, mean of the last pictures compared.",
        drift.residual,
    )
    yield gauges(
        "argus_quality_level_residual_ratio",
        "The same by level.",
        ("level",),
        (((level,), residual) for level, residual in drift.residuals.items()),
    )
    standing = {(alarm.level, alarm.worse) for alarm in drift.alarms}
    yield gauges(
        "argus_quality_drift",
        "1 while pictures are found to be worse, or better, than predicted; level '': of all.",
        ("level", "direction"),
        (
            ((level, name), float((level, worse) in standing))
            for level in (ALL, *drift.residuals)
            for worse, name in DIRECTIONS.items()
        ),
    )
    yield gauge(
        "argus_quality_bound_margin_ratio",
        "By how much lower bounds of quality are lowered, since too many were missed.",
        drift.margin,
    )
    yield gauge(
        "argus_quality_bound_held_ratio",
        "Share of the last pictures compared that reached their lower bound.",
        drift.coverage.held,
    )


def _counted(shadow: Shadow) -> Iterable[Metric]:
    counts = shadow.counts
    yield counter("argus_quality_sampled", "Pictures taken to be compared.", counts.sampled)
    ends = {
        "compared": counts.compared,
        "undefined": counts.undefined,
        "dropped": counts.dropped,
        "failed": counts.failed,
    }
    yield counters(
        "argus_quality_comparisons",
        "What became of pictures taken to be compared.",
        ("outcome",),
        (((outcome,), number) for outcome, number in ends.items()),
    )
    yield counter(
        "argus_quality_withdrawn",
        "Times that a picture made for comparison gave way to a client's request.",
        counts.withdrawn,
    )
