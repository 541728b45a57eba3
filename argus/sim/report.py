"""What a run is judged by."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from argus.sim.bound import clairvoyant_bound
from argus.sim.outcome import Outcome, Status
from argus.sim.setting import SimSetting
from argus.sim.types import PromptTable, SimProfile, Trace


def summary(outcome: Outcome, profile: SimProfile) -> dict[str, Any]:
    """Return the figures of a run, ready for JSON; None where there is no such figure."""
    levels = np.bincount(outcome.level[outcome.answered], minlength=len(profile.levels)).tolist()
    names = [level.name for level in profile.levels]
    ended = {s.name.lower(): int((outcome.status == s).sum()) for s in Status}
    return {
        "offered": len(outcome),
        "answered": int(outcome.answered.sum()),
        **ended,
        "violations": outcome.violations,
        "violation_share": _figure(outcome.violation_share),
        "mean_quality_all": _figure(outcome.quality_of_all),
        "mean_quality_answered": _figure(outcome.quality_of_answered),
        "goodput_per_s": _figure(outcome.goodput),
        "levels": dict(zip(names, levels, strict=True)),
        "decisions": outcome.decisions,
        "decisions_per_s": _figure(_per(outcome.decisions, outcome.policy_s)),
        "wall_s": outcome.wall_s,
        "requests_per_wall_minute": _figure(_per(60 * len(outcome), outcome.wall_s)),
    }


def bound(
    trace: Trace, prompts: PromptTable, profile: SimProfile, setting: SimSetting, bin_s: float = 1.0
) -> float:
    """Return the mean quality over all requests that no schedule can beat on the true cluster.

    Service times count without jitter, every node lives, every state is there at once, and steps
    are made in the widths that take the least time a row.
    """
    slo_s = profile.slo_s if setting.slo_s is None else setting.slo_s
    scales = [setting.scale(node) for node in range(setting.nodes)]
    fastest = min(scales)
    batching = profile.batching
    share = min(
        scale * batching.row_lanes / lanes
        for lanes, scale in zip(batching.lanes, batching.seconds_scale, strict=True)
    )
    seconds = np.array([level.seconds for level in profile.levels])
    return clairvoyant_bound(
        trace.arrival_s,
        trace.arrival_s + slo_s,
        prompts.quality[prompts.rows(trace)],
        seconds * fastest * share,
        sum(fastest / scale for scale in scales),
        bin_s,
    ).mean_quality


def describe(figures: dict[str, Any]) -> list[str]:
    """Return the figures in lines for people."""
    offered = figures["offered"]
    shares = " · ".join(
        f"{figures[name]:,} {name.replace('_', ' ')}"
        for name in ("on_time", "late", "refused", "dropped")
        if figures[name]
    )
    lines = [
        f"requests    {offered:,} offered: {shares}",
        f"violations  {figures['violations']:,} ({_percent(figures['violation_share'])})",
        f"quality     {_percent(figures['mean_quality_all'])} of all, "
        f"{_percent(figures['mean_quality_answered'])} of those answered",
    ]
    if figures.get("bound") is not None:
        gap = figures["bound"] - figures["mean_quality_all"]
        lines.append(f"bound       {_percent(figures['bound'])}, {_percent(gap)} above")
    if figures["goodput_per_s"] is not None:
        lines.append(f"goodput     {figures['goodput_per_s']:.4g} pictures on time a second")
    lines.append(f"levels      {_levels(figures)}")
    rate = figures["decisions_per_s"]
    speed = "" if rate is None else f", {rate:,.0f} a second of the policy's own time"
    lines.append(f"decisions   {figures['decisions']:,} in {figures['wall_s']:.3g} s{speed}")
    return lines


def _levels(figures: dict[str, Any]) -> str:
    answered = max(1, figures["answered"])
    return " · ".join(f"{name} {n / answered:.1%}" for name, n in figures["levels"].items() if n)


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{100 * share:.2f} %"


def _per(amount: float, seconds: float) -> float:
    return amount / seconds if seconds > 0 else math.nan


def _figure(value: float) -> float | None:
    return value if math.isfinite(value) else None
