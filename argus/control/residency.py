"""Which variants a node may come to hold, from those it holds."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from argus.control.allocation import Group, Holding

MOST_LOADS = 2
"""Loads of a node in one plan: they come one after the other, and the next plan can go on."""


@dataclass(frozen=True, slots=True)
class Change:
    """A node's step from one holding to the next; `before == after` keeps it."""

    before: Holding
    after: Holding

    def load_s(self, group: Group) -> float:
        """Return the seconds of loading that it takes."""
        return sum((group.load_s or {})[variant] for variant in self.after - self.before)


def changes(
    group: Group, useful: Collection[str], weights_bytes: Mapping[str, float]
) -> Iterator[Change]:
    """Yield what each node of a group may do, keeping what it holds first.

    Up to MOST_LOADS of the `useful` variants are loaded; to make room no more is dropped than has
    to be, and nothing without need.
    """
    wanted = sorted(variant for variant in group.load_s or {} if variant in useful)
    for before in sorted(group.present, key=sorted):
        if not group.present[before]:
            continue
        yield Change(before, before)
        absent = [variant for variant in wanted if variant not in before]
        for count in range(1, MOST_LOADS + 1):
            for loaded in itertools.combinations(absent, count):
                room = group.memory_bytes - _sum(weights_bytes, loaded)
                for kept in _largest(before, weights_bytes, room):
                    yield Change(before, kept | frozenset(loaded))


def _sum(weights_bytes: Mapping[str, float], variants: Iterable[str]) -> float:
    return sum(weights_bytes.get(variant, 0.0) for variant in variants)


def _largest(held: Holding, weights_bytes: Mapping[str, float], room: float) -> list[Holding]:
    """Return the subsets of `held` that fit into `room` and that no fitting one contains."""
    if room < 0:
        return []
    found: list[Holding] = []
    for count in range(len(held), -1, -1):
        for some in itertools.combinations(sorted(held), count):
            subset = frozenset(some)
            if _sum(weights_bytes, subset) <= room and not any(subset < x for x in found):
                found.append(subset)
    return found
