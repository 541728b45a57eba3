"""Which rows step next. Pure: time and costs come in as arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from argus.engine.row import BatchKey, Row

FILL_WEIGHT = 2.0
"""A full batch may go ahead of one this many of its own steps more urgent than itself."""

StepSeconds = Callable[[BatchKey, int], float]
"""Seconds of one step of a batch key over that many lanes."""


def slack_s(row: Row, now_s: float, step_s: float) -> float:
    """Return the seconds the row can lose and still be on time."""
    return row.due_s - now_s - row.steps_left * step_s


def fill(rows: Sequence[Row], max_lanes: int) -> list[Row]:
    """Return the rows of the next forward, the first due first, that fit into `max_lanes`.

    Within a variant the order is by due time, not by slack: the slack of a row grows with every
    step it makes, so least slack first would let all rows crawl side by side and finish late
    together, where earliest due first finishes them one after the other.
    """
    chosen: list[Row] = []
    lanes = 0
    for row in sorted(rows, key=lambda r: (r.due_s, r.submitted_s)):
        if lanes + row.lanes <= max_lanes:
            chosen.append(row)
            lanes += row.lanes
        if lanes == max_lanes:
            break
    return chosen


def next_batch(
    rows: Iterable[Row], max_lanes: Callable[[BatchKey], int], now_s: float, step_s: StepSeconds
) -> list[Row]:
    """Return the rows to step next, all with one batch key; empty when there are none.

    The batch with the least slack goes first, weighed by how full it is; slack shrinks while a
    batch waits, which is the ageing that keeps a variant from starving.
    """
    groups: dict[BatchKey, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.key, []).append(row)
    best: list[Row] = []
    best_urgency = float("inf")
    for key, members in groups.items():
        limit = max_lanes(key)
        seconds = step_s(key, min(limit, sum(r.lanes for r in members)))
        batch = fill(members, limit)
        if not batch:
            continue
        filled = sum(r.lanes for r in batch) / limit
        urgency = slack_s(batch[0], now_s, seconds) - FILL_WEIGHT * filled * seconds
        if urgency < best_urgency:
            best, best_urgency = batch, urgency
    return best
