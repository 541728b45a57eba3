"""Choices that spend a given budget: argmax of quality − price · cost, mixed at the margin."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from argus.control.reuse import PUBLISHED

Floats = NDArray[np.float64]
TIE = 1e-9


def spend(quality: Floats, cost: Floats, budget: float) -> Floats | None:
    """Return (n, l) shares of levels with the most expected quality that cost the budget or less.

    The linear program max Σ q·x, Σ_l x = 1 for each prompt, mean cost ≤ budget, solved by its
    price: at the price at which the budget lies between the cheapest and the dearest of the equally
    good choices, every prompt mixes the two in the same proportion. Among choices that are equally
    good at no price the cheapest is taken.

    Args:
        quality: (n, l) expected.
        cost: (l,).
        budget: mean cost of a prompt.

    Returns:
        None where not even the cheapest levels fit.
    """
    if cost.min() > budget + TIE:
        return None
    if _mean(cost, free := _choose(quality, cost, 0.0, dearest=False)) <= budget + TIE:
        return _shares(free, len(cost))
    prices = _prices(quality, cost)
    low, high = 0, len(prices) - 1
    while low < high:
        middle = (low + high) // 2
        cheap = _choose(quality, cost, prices[middle], dearest=False)
        if _mean(cost, cheap) <= budget + TIE:
            high = middle
        else:
            low = middle + 1
    cheap = _choose(quality, cost, prices[low], dearest=False)
    dear = _choose(quality, cost, prices[low], dearest=True)
    lower, upper = _mean(cost, cheap), _mean(cost, dear)
    share = 0.0 if upper - lower < TIE else min(1.0, max(0.0, (budget - lower) / (upper - lower)))
    return (1 - share) * _shares(cheap, len(cost)) + share * _shares(dear, len(cost))


def uniform(n: int, cost: Floats, budget: float) -> Floats | None:
    """Return every level alike, mixed with the dearest or the cheapest so that the budget is met.

    The first level is the reference; where all alike cost less than the budget it is given more.
    """
    if cost.min() > budget + TIE:
        return None
    alike = np.full(len(cost), 1 / len(cost))
    end = 0 if alike @ cost < budget else int(cost.argmin())
    apart = cost[end] - alike @ cost
    share = 0.0 if abs(apart) < TIE else min(1.0, (budget - alike @ cost) / apart)
    row = (1 - share) * alike
    row[end] += share
    return np.tile(row, (n, 1))


def move_thresholds(
    similarity: Floats, skips: Floats, cost: Floats, budget: float
) -> Floats | None:
    """Return NIRVANA's choice with all its thresholds moved alike until the budget is met.

    Args:
        similarity: (n,) to the neighbour.
        skips: (l,) skipped shares of the levels, 0 first.
        cost: (l,).
        budget: mean cost of a prompt.
    """
    if cost.min() > budget + TIE:
        return None
    steps = np.array(PUBLISHED.similarities)
    allowed = np.array(PUBLISHED.fractions)

    def choice(moved: float) -> NDArray[np.int64]:
        most = np.concatenate([[0.0], allowed])[
            np.searchsorted(steps, similarity + moved, side="left")
        ]
        fits = skips[None] <= most[:, None] + TIE
        return np.asarray(np.where(fits, skips[None], -1.0).argmax(axis=1))

    # Where somebody's choice changes: just before, and just after.
    borders = np.unique((steps[None] - similarity[:, None]).ravel())
    moves = np.concatenate([[borders[0] - 1.0], borders + TIE])
    costs = [_mean(cost, choice(move)) for move in moves]
    at = next((i for i, value in enumerate(costs) if value <= budget + TIE), None)
    if at is None:
        return None
    cheap = _shares(choice(moves[at]), len(cost))
    if not at:
        return cheap
    dear = _shares(choice(moves[at - 1]), len(cost))
    share = (budget - costs[at]) / (costs[at - 1] - costs[at])
    return (1 - share) * cheap + share * dear


def _prices(quality: Floats, cost: Floats) -> Floats:
    """Return, ascending, every price at which somebody is indifferent between two levels."""
    dearer = cost[:, None] - cost[None] > TIE
    gains = (quality[:, :, None] - quality[:, None, :])[:, dearer]
    prices = np.unique(gains / (cost[:, None] - cost[None])[dearer])
    return np.asarray(prices[prices > 0])


def _choose(quality: Floats, cost: Floats, price: float, *, dearest: bool) -> NDArray[np.int64]:
    value = quality - price * cost
    best = value >= value.max(axis=1, keepdims=True) - TIE
    rank = np.where(best, cost if dearest else -cost, -np.inf)
    return np.asarray(rank.argmax(axis=1))


def _shares(choice: NDArray[np.int64], count: int) -> Floats:
    return np.eye(count)[choice]


def _mean(cost: Floats, choice: NDArray[np.int64]) -> float:
    return float(cost[choice].mean())
