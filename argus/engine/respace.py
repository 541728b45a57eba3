"""Mid-flight approximation: the rest of a row in fewer steps, when it would be late otherwise."""

from __future__ import annotations

from argus.diffusion.adapter import PipelineAdapter
from argus.diffusion.grid import respace
from argus.engine.row import Row
from argus.types import TWO_LOOKS

SPARE = 1
"""Forwards left over when a row is spaced anew: with the time used up to the end, one slow step at
the last would make it late after all, and what it was spaced for would be lost."""


def affordable(row: Row, now_s: float, step_s: float, decode_s: float) -> int | None:
    """Return the forwards that the rest of a row shall have, or None to leave it as it is.

    Args:
        row: running, before a step.
        now_s: on the engine's clock.
        step_s: seconds of one of its forwards as batches are now.
        decode_s: seconds from the last forward to the picture.
    """
    fewest, deadline_s = row.request.fewest_forwards, row.deadline_s
    if not fewest or deadline_s is None or (row.request.checkpoints and row.skipped == 0):
        return None
    fits = int((deadline_s - now_s - decode_s) / step_s)
    if fits >= row.steps_left:
        return None
    target = max(1, fits - SPARE, fewest - row.steps_done)
    return target if target < row.steps_left else None


def space_anew(row: Row, adapter: PipelineAdapter, forwards_left: int) -> None:
    """Let the row do the rest of its schedule in at most `forwards_left` forwards, at least one
    step; it must be before a step. What it has done stays as it is."""
    wanted = row.request
    looks = 2 if wanted.sampler in TWO_LOOKS else 1
    kept = respace(row.table.steps, row.position, forwards_left, looks=looks)
    table = adapter.step_table(
        wanted.sampler, wanted.steps, wanted.width, wanted.height, kept=kept, eta=wanted.eta
    )
    if table.forwards < row.steps_left:
        row.replace_table(table)
