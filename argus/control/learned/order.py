"""Orders among levels that predictions keep: more skipped is never predicted to be better."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from argus.types import Level

Floats = NDArray[np.float64]
Chain = tuple[tuple[int, ...], ...]
"""Blocks of places of levels, best first; between blocks the order holds, inside it does not."""


def pool(means: Sequence[float], weights: Sequence[float]) -> list[list[int]]:
    """Return runs of places over which weighted means fall strictly, by pooling adjacent violators.

    (Ayer et al., Annals of Mathematical Statistics 26, 1955.) Neighbours that the data do not show
    to fall are in one run.
    """
    blocks: list[tuple[list[int], float, float]] = []
    for i, (mean, weight) in enumerate(zip(means, weights, strict=True)):
        block, total, size = [i], mean * weight, weight
        while blocks and blocks[-1][1] / blocks[-1][2] <= total / size:
            earlier, before, count = blocks.pop()
            block, total, size = earlier + block, before + total, count + size
        blocks.append((block, total, size))
    return [block for block, _, _ in blocks]


def find_chains(
    levels: Sequence[Level], means: Sequence[float], weights: Sequence[float]
) -> tuple[Chain, ...]:
    """Return the orders that measured means do not contradict.

    A variant's levels with fewer and fewer steps are one chain, those that continue a state of the
    same schedule later and later another, from the level that runs every step. Variants are not
    compared. Chains whose levels are all in one block say nothing and are left out.
    """
    chains = []
    for order in _orders(levels):
        blocks = pool([means[i] for i in order], [weights[i] for i in order])
        if len(blocks) > 1:
            chains.append(tuple(tuple(order[i] for i in block) for block in blocks))
    return tuple(chains)


def _orders(levels: Sequence[Level]) -> list[list[int]]:
    places = range(len(levels))
    orders: dict[tuple[str, float | None], list[int]] = {}
    for i in places:
        if not levels[i].skip_fraction:
            orders.setdefault((levels[i].variant, None), []).append(i)
    for i in places:
        level = levels[i]
        if level.skip_fraction:
            orders.setdefault((level.variant, level.steps_fraction), []).append(i)
    for (variant, steps), order in orders.items():
        if steps is not None:
            order += [
                i
                for i in places
                if (levels[i].variant, levels[i].steps_fraction) == (variant, steps)
                and not levels[i].skip_fraction
            ]
        order.sort(key=lambda i: (levels[i].skip_fraction, -levels[i].steps_fraction))
    return [order for order in orders.values() if len(order) > 1]


def settle(values: Floats, chains: Sequence[Chain]) -> Floats:
    """Return (n, l) values that keep the chains, 1 at the reference level, which is the first.

    Half way between lowering whatever is too high and raising whatever is too low; what kept the
    order already is unchanged. Where chains share a level, what is then still too high is lowered.
    """
    settled = values.copy()
    settled[:, 0] = 1.0
    for chain in chains:
        settled = (lower_to_order(settled, (chain,)) + _raised(settled, chain)) / 2
    settled[:, 0] = 1.0
    return lower_to_order(settled, chains)


def lower_to_order(values: Floats, chains: Sequence[Chain]) -> Floats:
    """Return the largest values that keep the chains and are nowhere above `values`, (n, l)."""
    if not chains:
        return values
    before = _before(tuple(chains), values.shape[1])
    return np.asarray(np.where(before, values[:, None, :], np.inf).min(axis=2))


def _raised(values: Floats, chain: Chain) -> Floats:
    """Return the smallest values that keep the chain and are nowhere below `values`."""
    after = _before((chain,), values.shape[1]).T
    return np.asarray(np.where(after, values[:, None, :], -np.inf).max(axis=2))


@lru_cache(maxsize=256)
def _before(chains: tuple[Chain, ...], count: int) -> NDArray[np.bool_]:
    """Return (l, l): whether a level, by row, is or comes behind another, by column.

    A level may be in several chains: it also comes behind all that those before it come behind.
    """
    before = np.eye(count, dtype=bool)
    for chain in chains:
        better: list[int] = []
        for block in chain:
            before[np.ix_(block, better)] = True
            better += block
    for _ in chains:
        before = before @ before
    before.setflags(write=False)
    return before
