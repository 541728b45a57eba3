"""Problems for the allocator: clusters of several kinds of nodes, and demand that wanders."""

from __future__ import annotations

import numpy as np

from argus.control.allocation import Group, Problem, PromptClass
from argus.control.levels import PUBLISHED_SKIPS
from argus.types import Level

GIB = 2.0**30
WEIGHTS_GB = {"sdxl": 5.14, "sd15": 3.44, "small": 2.32, "tiny": 0.63}
LOAD_S = {"sdxl": 47.0, "sd15": 21.7, "small": 15.1, "tiny": 11.8}
"""As published (Argus, arXiv 2511.06724)."""
IMAGE_S = {"sdxl": 4.2, "sd15": 1.78, "small": 1.1, "tiny": 0.6}
QUALITY = {"sdxl": 1.0, "sd15": 0.93, "small": 0.88, "tiny": 0.82}
"""The first of either row is published; the others are made up so that the ladder is a ladder."""
KINDS = ((24.0, 1.0), (16.0, 1.9), (8.0, 2.6), (6.0, 4.0))
"""Memory (GB) and slowness of kinds of nodes."""
SHARES = (0.225, 0.426, 0.213, 0.046, 0.032, 0.059)
"""Of prompts by the largest harmless skip, as published."""
OCCUPANCY = 0.9


def ladder() -> tuple[Level, ...]:
    """Return the levels: each variant whole and with a tenth to a half of its steps skipped."""
    skips = {0.0: 1.0, **PUBLISHED_SKIPS}
    found = [
        Level(f"{name}-{share:.0%}", name, 1.0, quality * kept, share)
        for name, quality in QUALITY.items()
        for share, kept in skips.items()
    ]
    return tuple(sorted(found, key=lambda level: -level.quality))


def groups(nodes: int, kinds: int, levels: tuple[Level, ...]) -> tuple[Group, ...]:
    """Return `nodes` nodes of `kinds` kinds, each holding the largest variant that fits."""
    found = []
    for k in range(kinds):
        memory_gb, slowness = KINDS[k % len(KINDS)]
        slowness *= 1.0 + 0.1 * (k // len(KINDS))
        count = nodes // kinds + (k < nodes % kinds)
        first = next(name for name, gb in WEIGHTS_GB.items() if gb <= memory_gb)
        seconds = {x.name: IMAGE_S[x.variant] * slowness * (1.0 - x.skip_fraction) for x in levels}
        present = {frozenset({first}): count - count // 2, frozenset({first, "tiny"}): count // 2}
        found.append(Group(f"kind-{k}", present, seconds, memory_gb, LOAD_S))
    return tuple(found)


def classes(rate_per_s: float, levels: tuple[Level, ...]) -> tuple[PromptClass, ...]:
    """Return six classes, by how much can be skipped of their steps without harm."""
    found = []
    for i, share in enumerate(SHARES):
        quality = {
            x.name: QUALITY[x.variant] if x.skip_fraction * 10 <= i + 1e-9 else x.quality
            for x in levels
        }
        found.append(PromptClass(f"harmless-{5 * i}", rate_per_s * share, quality, floor=0.8))
    return tuple(found)


def capacity_per_s(problem: Problem) -> float:
    """Return the pictures a second that the whole cluster makes at the best level."""
    best = problem.levels[0].name
    return sum(group.nodes / group.seconds[best] for group in problem.groups)


def problem(nodes: int, kinds: int, load: float, rng: np.random.Generator) -> Problem:
    """Return a cluster with demand near `load` times what it makes at the best level."""
    levels = ladder()
    made = Problem(levels, groups(nodes, kinds, levels), (), WEIGHTS_GB, OCCUPANCY)
    rate = load * capacity_per_s(made) * float(rng.uniform(0.9, 1.1))
    return Problem(levels, made.groups, classes(rate, levels), WEIGHTS_GB, OCCUPANCY)
