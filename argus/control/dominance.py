"""What levels cost on a node, and which of them nobody needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from argus.control.backlog import NodeBacklog
from argus.control.row_costs import RowShape
from argus.types import Level, VariantInfo, forwards, lanes


def usual_row(level: Level, reference: VariantInfo, variant: VariantInfo) -> RowShape:
    """Return the row of a request that leaves everything open, made at `level`.

    Args:
        level: where it is made.
        reference: variant of the reference level, which size and steps come from.
        variant: the level's.
    """
    steps = level.steps(reference.default_steps)
    skip = level.skip(reference.default_steps)
    return RowShape(
        variant.name,
        reference.width,
        reference.height,
        forwards(variant.default_sampler, steps, left_out=skip),
        lanes(variant.default_guidance, variant.guidance_embedded),
    )


def stall_s(retrieval_s: float, wait_s: float) -> float:
    """Return the seconds a device stands still for a state.

    States are fetched while rows wait for a slot, so only what exceeds that is lost.
    """
    return max(0.0, retrieval_s - wait_s)


def cost_s(node: NodeBacklog, level: Level, row: RowShape, stalled_s: float = 0.0) -> float:
    """Return the device seconds of a row in full batches; infinite where it cannot run.

    Args:
        node: with its measured costs.
        level: of the row.
        row: what it asks.
        stalled_s: that the device stands still for the state, if the level needs one.
    """
    if not node.holds(row.variant):
        return math.inf
    return node.device_s(row) + (stalled_s if level.skip_fraction else 0.0)


@dataclass(frozen=True, slots=True)
class Standing:
    """What a level is worth and what it costs.

    Attributes:
        level: which.
        qualities: by class of prompts, or of the one prompt that is asked about.
        costs_s: device seconds by node or group of nodes; infinite where it cannot run.
    """

    level: Level
    qualities: tuple[float, ...]
    costs_s: tuple[float, ...]


def dominates(one: Standing, other: Standing) -> bool:
    """Whether nobody who has `one` needs `other`.

    That is so when `one` is open to every request that `other` is open to, costs no more on any
    node, is no worse for any class, and the two are not the same.
    """
    return (
        _as_open(one.level, other.level)
        and all(a <= b for a, b in zip(one.costs_s, other.costs_s, strict=True))
        and all(a >= b for a, b in zip(one.qualities, other.qualities, strict=True))
        and (one.costs_s, one.qualities) != (other.costs_s, other.qualities)
    )


def _as_open(one: Level, other: Level) -> bool:
    """Whether a request that may have `other` may have `one`.

    Whole runs are open to all. A state that allows a late start allows an earlier one.
    """
    if not one.skip_fraction:
        return True
    same = (one.variant, one.steps_fraction) == (other.variant, other.steps_fraction)
    return same and one.skip_fraction <= other.skip_fraction


def undominated(standings: Sequence[Standing]) -> tuple[Standing, ...]:
    """Return the levels that are the best choice of somebody, somewhere, in the order given."""
    return tuple(
        mine for mine in standings if not any(dominates(other, mine) for other in standings)
    )


def concave_hull(points: Sequence[tuple[float, float]]) -> tuple[int, ...]:
    """Return the indices of the (cost, quality) points on the upper concave hull, by cost.

    From the cheapest point to the best one; any other is no better than a mix of two of these
    that costs no more, so a linear program needs no other (Andrew's monotone chain, 1979).
    """
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    hull: list[int] = []
    for i in order:
        cost, quality = points[i]
        if not math.isfinite(cost) or (hull and quality <= points[hull[-1]][1]):
            continue
        while len(hull) > 1 and _under(points[hull[-2]], points[hull[-1]], points[i]):
            hull.pop()
        hull.append(i)
    return tuple(hull)


def _under(
    left: tuple[float, float], point: tuple[float, float], right: tuple[float, float]
) -> bool:
    """Whether `point` is on or under the line from `left` to `right`."""
    rise, run = right[1] - left[1], right[0] - left[0]
    return (point[1] - left[1]) * run <= rise * (point[0] - left[0])
