"""Parts of the ladder on which choices are judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from argus.types import Level

BUDGETS = (0.2, 0.35, 0.5, 0.8, 0.9, 0.95)
"""Shares of the device seconds of a ladder's first level that are to be saved."""


@dataclass(frozen=True, slots=True)
class Ladder:
    """Levels among which is chosen, by their places in the whole ladder; the first is what is saved
    from."""

    name: str
    places: tuple[int, ...]


def ladders(levels: Sequence[Level]) -> tuple[Ladder, ...]:
    """Return the whole ladder, that of states alone, and those of variants at equal steps.

    Only what has a choice.
    """
    first = levels[0]
    states = [
        i
        for i, level in enumerate(levels)
        if (level.variant, level.steps_fraction) == (first.variant, first.steps_fraction)
    ]
    found = [Ladder("all levels", tuple(range(len(levels))))]
    found.append(Ladder("states only", tuple(states)))
    for steps in sorted({level.steps_fraction for level in levels}, reverse=True):
        alike = [
            i
            for i, level in enumerate(levels)
            if level.steps_fraction == steps and not level.skip_fraction
        ]
        alike.sort(key=lambda i: (levels[i].variant != first.variant, i))
        found.append(Ladder(f"variants at {steps:.0%} of the steps", tuple(alike)))
    return tuple(ladder for ladder in found if len(ladder.places) > 1)
