"""The published tables, from the simulator at the published rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from control_cells import PROFILES, Contender, Job, Row, Scenario, mean_and_half
from control_judged import FIRST_SEED

from argus.control.policies import PolicyOptions
from argus.control.policies.node_levels import Alike, node_levels
from argus.control.reuse import PUBLISHED
from argus.sim.prompts import HARMLESS_SHARES
from argus.sim.published import modelled_prompts

FAST = "published, 1.65 times as fast"
NODES = 8
OPTIMA = {200: 98.8, 250: 95.8, 300: 93.6, 350: 92.1, 370: 91.5}
"""Load a minute → quality %, as published."""
PEAK = {
    "argus-paper": (370, 94.0, 20),
    "pac": (335, 92.5, 55),
    "clipper-ht": (330, 89.7, 60),
    "proteus": (310, 92.2, 82),
    "sommelier": (255, 92.2, 135),
    "nirvana": (225, 96.6, 165),
    "clipper-ha": (180, 100.0, 210),
}
"""Pictures a minute, their quality %, violations a minute at the peak; read off a plot."""
PEAK_RATE = 390.0


def jobs(out: Path, requests: int, seeds: int) -> list[Job]:
    """Return the plateau of the bursty trace, every system as published, without shedding."""
    profile = PROFILES[FAST]()
    load = PEAK_RATE / 60 / profile.capacity(NODES)
    who = tuple(Contender(name, name) for name in PEAK)
    unshed = tuple(
        replace(c, label=f"{c.label}, no shedding", options=PolicyOptions(shed=False)) for c in who
    )
    ours = Contender("argus", "argus")
    return [
        Job(
            Scenario("poisson", load, FIRST_SEED + seed, requests, profile=FAST),
            (*who, *unshed, ours),
        )
        for seed in range(seeds)
    ]


def tables(rows: Sequence[Row]) -> dict[str, list[dict[str, Any]]]:
    """Return published figures beside those found."""
    return {
        "Exact optima of the published allocation": _optima(),
        "NIRVANA without load": _nirvana(),
        "At the peak of 390 a minute": _peak(rows),
    }


def _optima() -> list[dict[str, Any]]:
    levels = PROFILES[FAST]().levels
    qualities = tuple(level.quality for level in levels)
    alike = (Alike(NODES, tuple(level.seconds for level in levels)),)
    found = []
    for load, published in OPTIMA.items():
        plan = node_levels(qualities, alike, load / 60)
        mean = 100 * sum(s * q for s, q in zip(plan.shares, qualities, strict=True))
        found.append(
            {
                "load a minute": load,
                "published %": published,
                "found %": f"{mean:.2f}",
                "nodes by level": ", ".join(map(str, plan.counts[0])),
            }
        )
    return found


def _nirvana() -> list[dict[str, Any]]:
    """Return capacity and quality of levels chosen by similarity alone."""
    profile = PROFILES[FAST]()
    skips = np.array([level.skip for level in profile.levels])
    seconds = np.array([level.seconds for level in profile.levels])
    logged = np.array(HARMLESS_SHARES) / sum(HARMLESS_SHARES)
    by_log = 60 * NODES / float(logged @ seconds)
    prompts = modelled_prompts(profile, 100_000, FIRST_SEED)
    chosen = np.array([PUBLISHED(s) for s in prompts.similarity]) * profile.levels[0].steps
    level = np.searchsorted(skips, chosen + 1e-9, side="right") - 1
    quality = float(prompts.quality[np.arange(len(level)), level].mean())
    by_similarity = 60 * NODES / float(seconds[level].mean())
    return [
        {
            "figure": "pictures a minute, shares of levels as logged",
            "published": 219.6,
            "found": f"{by_log:.1f}",
        },
        {
            "figure": "pictures a minute, similarities drawn from the quantiles",
            "published": 219.6,
            "found": f"{by_similarity:.1f}",
        },
        {"figure": "mean quality %", "published": 96.9, "found": f"{100 * quality:.2f}"},
    ]


def _peak(rows: Sequence[Row]) -> list[dict[str, Any]]:
    found = []
    for name in (*PEAK, "argus"):
        own, unshed = (
            [r for r in rows if r.contender.label == label]
            for label in (name, f"{name}, no shedding")
        )
        published = PEAK.get(name)
        found.append(
            {
                "system": name,
                "published: made, quality %, violations": ", ".join(map(str, published))
                if published
                else "",
                "made a minute": _mean(own, "per_minute", 1),
                "quality %": _mean(own, "quality_answered", 100),
                "violations a minute": _mean(own, "violations", PEAK_RATE),
                "made, nothing dropped": _mean(unshed, "per_minute", 1),
                "quality, nothing dropped %": _mean(unshed, "quality_answered", 100),
                "violations, nothing dropped": _mean(unshed, "violations", PEAK_RATE),
            }
        )
    return found


def _mean(rows: Sequence[Row], field: str, scale: float) -> str:
    if not rows:
        return ""
    mean, half = mean_and_half(scale * getattr(row, field) for row in rows)
    return f"{mean:.1f} ± {half:.1f}"
