"""What became of every request of a simulated run."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from argus.sim.types import Floats, Ints, Texts


class Status(enum.IntEnum):
    """How a request ended; the name in small letters stands in out.csv."""

    ON_TIME = 0
    LATE = 1
    REFUSED = 2
    """On arrival."""
    DROPPED = 3
    """After it had been accepted."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of every arrival, in the trace's order: the columns of out.csv.

    Attributes:
        prompt_id, arrival_s: as in the trace.
        start_s: when the row that was finished took its slot; NaN where none was.
        finish_s: when the picture was there; NaN.
        level: index in the ladder; −1 where no picture was made.
        node: index; −1.
        deadline_s: on the trace's clock.
        quality: true relative quality, of late pictures too; 0 where none was made.
        status: values of `Status`.
        decisions: what the policy decided: admissions, refusals, starts, give-ups.
        policy_s: wall seconds spent in the policy.
        wall_s: wall seconds of the run.
        moves: orders to move variants that nodes carried out.
    """

    prompt_id: Texts
    arrival_s: Floats
    start_s: Floats
    finish_s: Floats
    level: Ints
    node: Ints
    deadline_s: Floats
    quality: Floats
    status: Ints
    decisions: int
    policy_s: float
    wall_s: float
    moves: int = 0

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def on_time(self) -> NDArray[np.bool_]:
        """Which requests were answered within their deadline."""
        on_time: NDArray[np.bool_] = self.status == Status.ON_TIME
        return on_time

    @property
    def answered(self) -> NDArray[np.bool_]:
        """Which requests were answered at all."""
        return self.level >= 0

    @property
    def quality_of_all(self) -> float:
        """Mean quality over all requests; late or none counts as 0. NaN without requests."""
        return _mean(np.where(self.on_time, self.quality, 0.0))

    @property
    def quality_of_answered(self) -> float:
        """Mean quality of the pictures made, late ones too; NaN without one."""
        return _mean(self.quality[self.answered])

    @property
    def violations(self) -> int:
        """Requests that were not answered within their deadline."""
        return len(self) - int(self.on_time.sum())

    @property
    def violation_share(self) -> float:
        """Their share; NaN without requests."""
        return self.violations / len(self) if len(self) else math.nan

    @property
    def goodput(self) -> float:
        """Pictures on time a second, from the first arrival to the last one or last finish."""
        if not len(self):
            return math.nan
        on_time = self.on_time
        end_s = max(self.arrival_s[-1], self.finish_s[on_time].max(initial=-math.inf))
        span_s = float(end_s - self.arrival_s[0])
        return int(on_time.sum()) / span_s if span_s > 0 else math.nan


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else math.nan
