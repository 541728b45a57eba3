"""Counts since the coordinator started."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from argus.coordinator.flight import Phase
from argus.v1 import admin_pb2


@dataclass(slots=True)
class Counters:
    """Every accepted request ends in exactly one of answered, cancelled and failed."""

    accepted: int = 0
    answered: int = 0
    on_time: int = 0
    refused: int = 0
    cancelled: int = 0
    failed: int = 0
    replayed: int = 0
    reused: int = 0
    state_misses: int = 0
    steps_saved: int = 0
    answered_by_level: Counter[str] = field(default_factory=Counter)

    def ended(self, phase: Phase) -> None:
        """Count the end of an accepted request."""
        if phase is Phase.DONE:
            self.answered += 1
        elif phase is Phase.CANCELLED:
            self.cancelled += 1
        else:
            self.failed += 1

    def to_proto(self) -> admin_pb2.Counters:
        """Return the message, without the counts by level."""
        return admin_pb2.Counters(
            accepted=self.accepted,
            answered=self.answered,
            on_time=self.on_time,
            refused=self.refused,
            cancelled=self.cancelled,
            failed=self.failed,
            replayed=self.replayed,
            reused=self.reused,
            state_misses=self.state_misses,
            steps_saved=self.steps_saved,
        )
