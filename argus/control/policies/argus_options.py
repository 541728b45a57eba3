"""Settings of Argus's own policy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ArgusOptions:
    """What can be set, and parts that can be switched off to see what each is worth.

    Attributes:
        memory_s: of the arrival rate.
        curve_s: seconds between two solutions for the price.
        burst: arrivals that the price takes to come together.
        margin_share: of rows that end within the learned margin.
        relax: how far the check of those behind counts on rows ending one after the other: 0, not
            at all, so that nothing can go wrong; 1, as they do on average.
        shed: whether tasks are let go when not all can be on time.
        price: off: the best level that can be on time, whatever the backlog.
        feedback: off: the price is that of the last plan, at which the nodes can just make what
            is expected to come, whatever waits.
        late_binding: off: level and node are settled on arrival.
        slack: off: those behind are not looked at.
        predictor: off: every prompt counts as the average.
        filling: off: rows are predicted to step with those that are there; margins are for all
            that makes them longer.
    """

    memory_s: float = 8.0
    curve_s: float = 60.0
    burst: float = 1.0
    margin_share: float = 0.995
    relax: float = 0.5
    shed: bool = True
    price: bool = True
    feedback: bool = True
    late_binding: bool = True
    slack: bool = True
    predictor: bool = True
    filling: bool = True
