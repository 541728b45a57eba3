"""Who leads, as metrics of each coordinator that may."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Metric

from argus.coordinator.leadership import Leadership
from argus.metrics.families import gauge


def leadership_families(leadership: Leadership) -> Iterable[Metric]:
    """Return the families of a coordinator that others stand by for, or that stands by itself."""
    leads = leadership.holds
    yield gauge("argus_coordinator_leader", "Whether this coordinator leads, 1 or 0.", leads)
    yield gauge(
        "argus_coordinator_epoch",
        "Number of the present leadership; 0 where another coordinator leads, or none.",
        leadership.epoch if leads else 0,
    )
    yield gauge(
        "argus_coordinator_waiting",
        "Coordinators that wait to take over, as the leader knows them; 0 on the others.",
        leadership.waiting if leads else 0,
    )
