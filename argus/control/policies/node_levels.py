"""One level for each node: the published allocation, solved exactly.

    maximise Σ y·Q  subject to  Σ y = load,  y of a node ≤ what it makes at its level

(Argus, arXiv 2511.06724; Proteus, ASPLOS 2024, without its choice of batches). It is the
allocator's problem with each level a variant of its own that fills a node and takes no time to
load. Where the load is beyond the fastest levels, as many requests as possible are made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from argus.control.allocation import Group, Problem, PromptClass
from argus.control.allocator import Allocator
from argus.types import Level

_GAP = 1e-5
_UNMET = 10.0
"""Worse than any level: it decides how many are made before it is asked how well."""
_KEPT = 8192


@dataclass(frozen=True, slots=True)
class Alike:
    """Nodes that cost the same.

    Attributes:
        nodes: how many.
        seconds: device seconds of a picture by level; infinity where they cannot make it.
    """

    nodes: int
    seconds: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class NodeLevels:
    """Who makes what.

    Attributes:
        counts: by kind of nodes and level, how many nodes are at it.
        rates: by kind and level, pictures a second that they are to make together.
    """

    counts: tuple[tuple[int, ...], ...]
    rates: tuple[tuple[float, ...], ...]

    @property
    def shares(self) -> tuple[float, ...]:
        """By level, the share of all pictures; everything at the first where there are none."""
        sums = [math.fsum(column) for column in zip(*self.rates, strict=True)]
        total = math.fsum(sums)
        if not total:
            return (1.0, *(0.0 for _ in sums[1:]))
        return tuple(x / total for x in sums)


@lru_cache(maxsize=_KEPT)
def node_levels(
    qualities: tuple[float, ...], kinds: tuple[Alike, ...], demand: float
) -> NodeLevels:
    """Return the levels of the nodes that make the most of `demand`; it is kept for next time.

    Args:
        qualities: mean of each level, falling.
        kinds: the nodes.
        demand: pictures a second.
    """
    names = [f"{i:03d}" for i in range(len(qualities))]
    levels = tuple(Level(n, n, 1.0, q) for n, q in zip(names, qualities, strict=True))
    groups = tuple(_group(str(k), names, kind) for k, kind in enumerate(kinds))
    prompts = PromptClass(
        "all", demand, dict(zip(names, qualities, strict=True)), unmet_loss=_UNMET
    )
    problem = Problem(
        levels,
        groups,
        (prompts,),
        dict.fromkeys(names, 1.0),
        occupancy=1.0,
        move_loss=0.0,
    )
    found = _ALLOCATOR.solve(problem)
    counts, rates = [], []
    for plan in found.groups:
        held = [plan.residency.get(frozenset((name,)), 0) for name in names]
        made = [plan.rates_per_s.get(name, 0.0) for name in names]
        counts.append(_all_busy(held, made))
        rates.append(tuple(made))
    return NodeLevels(tuple(counts), tuple(rates))


_ALLOCATOR = Allocator(gap=_GAP, time_limit_s=60.0)
"""Far more time than it takes: answers must not depend on the machine's speed."""


def _group(name: str, levels: list[str], kind: Alike) -> Group:
    seconds = {n: s for n, s in zip(levels, kind.seconds, strict=True) if s < math.inf}
    first = next(iter(seconds), levels[0])
    return Group(
        name,
        {frozenset((first,)): kind.nodes},
        seconds,
        memory_bytes=1.0,
        load_s=dict.fromkeys(seconds, 0.0),
    )


def _all_busy(held: list[int], made: list[float]) -> tuple[int, ...]:
    """Return the counts with nodes that would make nothing put beside those with most to do.

    The objective does not care where they are.
    """
    idle = sum(count for count, rate in zip(held, made, strict=True) if not rate)
    if idle == sum(held):
        return (idle, *(0 for _ in held[1:]))
    busy = [count if rate else 0 for count, rate in zip(held, made, strict=True)]
    for _ in range(idle):
        fullest = max(range(len(busy)), key=lambda i: made[i] / busy[i] if busy[i] else -1.0)
        busy[fullest] += 1
    return tuple(busy)
