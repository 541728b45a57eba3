"""Counts since the coordinator started."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from argus.coordinator.flight import Flight, Phase
from argus.errors import (
    ArgusError,
    DeadlineError,
    InvalidArgumentError,
    NotFoundError,
    OverloadedError,
    UnavailableError,
)
from argus.histogram import LONG_SECONDS, Histogram
from argus.v1 import admin_pb2, image_pb2

QUALITIES = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 1.0)
"""Bounds for predicted relative quality."""

CAUSES: dict[type[ArgusError], str] = {
    InvalidArgumentError: "bad_field",
    NotFoundError: "unknown_name",
    UnavailableError: "no_node",
    DeadlineError: "deadline_too_short",
    OverloadedError: "busy",
}
"""Why requests are refused, by the error that says so."""
FULL = "full"
"""A cause of its own: as many requests are in flight as may be."""


@dataclass(slots=True)
class Counters:
    """Every accepted request ends in exactly one of answered, cancelled and failed."""

    accepted: int = 0
    adopted: int = 0
    """Of those accepted, brought along by nodes from another coordinator."""
    answered: int = 0
    on_time: int = 0
    refused: int = 0
    cancelled: int = 0
    failed: int = 0
    replayed: int = 0
    reused: int = 0
    state_misses: int = 0
    steps_saved: int = 0
    quality_sum: float = 0.0
    on_time_quality_sum: float = 0.0
    deadline_met: int = 0
    deadline_missed: int = 0
    """Cancelled ones count neither as met nor as missed."""
    answered_by_level: Counter[str] = field(default_factory=Counter)
    refused_by_cause: Counter[str] = field(default_factory=Counter)
    quality: Histogram = field(default_factory=lambda: Histogram(QUALITIES))
    queued_s: Histogram = field(default_factory=lambda: Histogram(LONG_SECONDS))
    total_s: Histogram = field(default_factory=lambda: Histogram(LONG_SECONDS))

    def refuse(self, error: ArgusError, full: bool = False) -> None:
        """Count a request that was not accepted.

        Args:
            error: that says why.
            full: whether as many requests are in flight as may be.
        """
        cause = FULL if full and isinstance(error, OverloadedError) else CAUSES.get(type(error))
        self.refused_by_cause[cause or "other"] += 1
        self.refused += isinstance(error, OverloadedError | DeadlineError)

    def answer(self, flight: Flight, image: image_pb2.Image, now_s: float) -> None:
        """Count an image."""
        on_time = flight.on_time(now_s)
        self.answered_by_level[image.level] += 1
        self.on_time += on_time
        self.quality_sum += image.predicted_quality
        self.on_time_quality_sum += image.predicted_quality * on_time
        self.quality.observe(image.predicted_quality)
        self.queued_s.observe(image.queued_s)
        self.total_s.observe(image.total_s)
        if flight.request.deadline_s is not None:
            self.deadline_met += on_time
            self.deadline_missed += not on_time

    def ended(self, flight: Flight, phase: Phase) -> None:
        """Count the end of an accepted request."""
        if phase is Phase.DONE:
            self.answered += 1
        elif phase is Phase.CANCELLED:
            self.cancelled += 1
        else:
            self.failed += 1
            self.deadline_missed += flight.request.deadline_s is not None

    def to_proto(self) -> admin_pb2.Counters:
        """Return the message, without the counts by level."""
        return admin_pb2.Counters(
            accepted=self.accepted,
            adopted=self.adopted,
            answered=self.answered,
            on_time=self.on_time,
            refused=self.refused,
            cancelled=self.cancelled,
            failed=self.failed,
            replayed=self.replayed,
            reused=self.reused,
            state_misses=self.state_misses,
            steps_saved=self.steps_saved,
            quality_sum=self.quality_sum,
            on_time_quality_sum=self.on_time_quality_sum,
            deadline_met=self.deadline_met,
            deadline_missed=self.deadline_missed,
        )
