"""Which steps of a schedule are run, and the points in time they run between.

A run may leave steps out: those before a cached state, or, where it would be late, every few of
those that remain. Each step that is kept goes from its own point to that of the next one kept, the
last to the end of the schedule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from argus.errors import InvalidArgumentError


@dataclass(frozen=True, slots=True)
class Grid:
    """The kept steps of one schedule, m of its `total`.

    Attributes:
        scheduler: of diffusers, its time steps set; options and noise levels are read from it.
        total: steps of the full schedule.
        kept: (m,) index in the full schedule of each step that is run.
        times: (m,) what the model is told in each.
        last_time: the same for the last step of the full schedule, kept or not.
    """

    scheduler: Any
    total: int
    kept: tuple[int, ...]
    times: tuple[float, ...]
    last_time: float

    @property
    def sigmas(self) -> list[float]:
        """(m + 1,) noise level before each step, and at the end of the schedule.

        Only of schedulers that set a level for each time step.
        """
        looks = self.scheduler.order
        levels = self.scheduler.sigmas.double().tolist()
        return [*(levels[looks * k] for k in self.kept), levels[looks * (self.total - 1) + 1]]

    @property
    def complete(self) -> bool:
        """Whether no step is left out."""
        return len(self.kept) == self.total

    @property
    def length(self) -> int:
        """How many steps the scheduler that runs them would count.

        Started late it still knows the whole schedule; with steps left out in between it is
        another, shorter one.
        """
        tail = self.kept[0] + len(self.kept) == self.total
        return self.total if tail else len(self.kept)

    def adjacent(self, i: int) -> bool:
        """Whether what follows the i-th kept step is what follows it in the full schedule."""
        after = self.kept[i + 1] if i + 1 < len(self.kept) else self.total
        return after == self.kept[i] + 1


def make_grid(scheduler: Any, total: int, kept: Sequence[int] | None) -> Grid:
    """Return the grid of a diffusers scheduler whose `total` time steps are set.

    Args:
        scheduler: its time steps may list a point more than once, if it looks there twice.
        total: steps of the schedule.
        kept: ascending indices of the steps to run; None for all.

    Raises:
        InvalidArgumentError: the scheduler makes another number of steps of it.
        ValueError: `kept` is empty, does not ascend or reaches outside the schedule.
    """
    chosen = _checked(kept, total)
    times = scheduler.timesteps.tolist()[:: scheduler.order]
    if len(times) == total + 1 and times[1:2] == times[2:3]:
        del times[1]  # PNDM's second look in step 0, at the point where step 1 starts
    if len(times) != total:
        # Rounding of "trailing" spacing can add one; clipping the noisiest takes some away.
        raise InvalidArgumentError(
            "steps", f"{total} cannot be had: this variant's schedule makes {len(times)} of them"
        )
    return Grid(scheduler, total, chosen, tuple(times[k] for k in chosen), times[-1])


def respace(
    steps: Sequence[int], position: int, forwards_left: int, *, looks: int = 1
) -> tuple[int, ...]:
    """Return which steps to keep so that the rest of a run takes at most `forwards_left`.

    The first remaining step is always kept, since the latents are those before it. Of r remaining
    steps and m that fit, those at floor(j r / m) are kept: the jumps, the one to the end of the
    schedule among them, differ by at most one step.

    Args:
        steps: ascending, for each line of the table in use the step it belongs to.
        position: line that is due; it must be the first of its step.
        forwards_left: at least 1.
        looks: forwards in each step but the last; 2 for Heun's samplers.

    Raises:
        ValueError: an argument is out of its range.
    """
    if not 0 <= position < len(steps) or forwards_left < 1 or looks < 1:
        raise ValueError(
            f"cannot re-space {len(steps)} lines at {position} into {forwards_left} forwards"
        )
    if position and steps[position] == steps[position - 1]:
        raise ValueError(f"line {position} lies between two looks of step {steps[position]}")
    remaining = tuple(dict.fromkeys(steps[position:]))
    fitting = min(len(remaining), (forwards_left + looks - 1) // looks)
    return tuple(remaining[j * len(remaining) // fitting] for j in range(fitting))


def _checked(kept: Sequence[int] | None, total: int) -> tuple[int, ...]:
    if kept is None:
        return tuple(range(total))
    chosen = tuple(kept)
    if not chosen:
        raise ValueError("kept: at least one step must be run")
    if any(a >= b for a, b in zip(chosen, chosen[1:], strict=False)):
        raise ValueError(f"kept: steps must ascend, not {chosen}")
    if chosen[0] < 0 or chosen[-1] >= total:
        raise ValueError(f"kept: {chosen} reaches outside the schedule's {total} steps")
    return chosen
