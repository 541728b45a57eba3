"""When the next plan is due."""

from __future__ import annotations

_EARLY = 10
"""Plans in the first period: nobody should be judged by a plan made of nothing."""


def next_plan_s(now_s: float, period_s: float) -> float:
    """Return when to plan next; within the first period sooner."""
    return now_s + (period_s if now_s >= period_s else period_s / _EARLY)
