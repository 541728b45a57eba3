"""Families of metrics, put together from what others counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from argus.histogram import Spread

Key = TypeVar("Key", bound=tuple[str, ...])
Labelled = Iterable[tuple[Sequence[str], float]]
"""Values of the labels, in the order of their names, with the metric's own."""


def gauge(name: str, text: str, value: float) -> Metric:
    """Return a gauge without labels."""
    return GaugeMetricFamily(name, text, value=value)


def gauges(name: str, text: str, labels: Sequence[str], values: Labelled) -> Metric:
    """Return a gauge with labels."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values:
        family.add_metric(key, value)
    return family


def counter(name: str, text: str, value: float) -> Metric:
    """Return a counter without labels; `_total` is added to its name."""
    return CounterMetricFamily(name, text, value=value)


def counters(name: str, text: str, labels: Sequence[str], values: Labelled) -> Metric:
    """Return a counter with labels; `_total` is added to its name."""
    family = CounterMetricFamily(name, text, labels=labels)
    for key, value in values:
        family.add_metric(key, value)
    return family


def histogram(name: str, text: str, spread: Spread) -> Metric:
    """Return a histogram without labels."""
    return histograms(name, text, (), {(): spread})


def histograms(
    name: str, text: str, labels: Sequence[str], spreads: Mapping[Key, Spread]
) -> Metric:
    """Return a histogram with labels."""
    family = HistogramMetricFamily(name, text, labels=labels)
    for key, spread in spreads.items():
        seen, buckets = 0, []
        for bound, count in zip((*map(str, spread.bounds), "+Inf"), spread.counts, strict=True):
            seen += count
            buckets.append((bound, seen))
        family.add_metric(key, buckets, sum_value=spread.total)
    return family
