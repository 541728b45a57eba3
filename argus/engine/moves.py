"""Which variants are moved when not all fit into the device's memory. Pure: no clock, no device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SHORTEST_STAY_S = 2.0
"""A variant is not asked to make room sooner than this after it came."""
STAY_IN_MOVES = 4.0
"""Nor sooner than this many times what moving takes, or moving would be all that is done."""


@dataclass(frozen=True, slots=True)
class Holding:
    """A variant as the choice of moves sees it; times are seconds of one clock.

    Attributes:
        name: of the variant.
        weights_bytes: memory that its weights take on the device.
        resident: whether they are there; a variant that is being moved is not listed at all.
        pinned: never moved.
        busy: rows of it wait or run.
        closing: it takes no more rows because another variant waits for its room.
        used_s: when a row of it last ran.
        since_s: when it became resident.
        move_s: seconds that bringing it in took last.
    """

    name: str
    weights_bytes: int
    resident: bool
    pinned: bool
    busy: bool
    closing: bool
    used_s: float
    since_s: float
    move_s: float


@dataclass(frozen=True, slots=True)
class Move:
    """What to do now: park `out`, bring `into` in, and let `close` take no more rows.

    `refuse` can never be brought in beside the variants that are pinned.
    """

    out: tuple[str, ...] = ()
    into: str | None = None
    close: tuple[str, ...] = ()
    refuse: str | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody outside wants moved; done as a whole or not at all.

    Attributes:
        load: variant to bring in; empty: none.
        park: variants to take off the device.
        make_room: whether idle variants, those unused for longest first, make what room is missing.
        drop: whether what is parked is dropped from host memory, too.
    """

    load: str = ""
    park: tuple[str, ...] = ()
    make_room: bool = False
    drop: bool = False


def choose_move(
    holdings: Sequence[Holding],
    wanted: Mapping[str, float],
    free_bytes: int,
    now_s: float,
    moving: bool = False,
) -> Move | None:
    """Return the next move, or None.

    The parked variant whose waiting row is due first is served. Idle variants make room for it, the
    one unused for longest first. Where they are not enough, busy ones are closed, the one resident
    for longest first, once they had their shortest stay: so no variant starves, and none is moved
    to and fro without doing work.

    Args:
        holdings: every variant that is not being moved.
        wanted: parked variants that rows wait for, with the earliest due time.
        free_bytes: of the budget, not taken by resident weights or by moves under way.
        now_s: the time.
        moving: whether other variants are being moved, so that more may be free soon.
    """
    parked = [h for h in holdings if not h.resident and h.name in wanted]
    if not parked:
        return None
    target = min(parked, key=lambda h: wanted[h.name])
    missing = target.weights_bytes - free_bytes
    movable = [h for h in holdings if h.resident and not h.pinned]
    if missing > sum(h.weights_bytes for h in movable) and not moving:
        return Move(refuse=target.name)
    out: list[str] = []
    for holding in sorted((h for h in movable if not h.busy), key=lambda h: h.used_s):
        if missing <= 0:
            break
        out.append(holding.name)
        missing -= holding.weights_bytes
    if missing <= 0:
        return Move(out=tuple(out), into=target.name)
    return _close(movable, missing, now_s)


def _close(movable: Sequence[Holding], missing: int, now_s: float) -> Move | None:
    missing -= sum(h.weights_bytes for h in movable if h.closing and h.busy)
    close: list[str] = []
    for holding in sorted(movable, key=lambda h: h.since_s):
        if missing <= 0:
            break
        stay_s = max(SHORTEST_STAY_S, STAY_IN_MOVES * holding.move_s)
        if holding.busy and not holding.closing and now_s - holding.since_s >= stay_s:
            close.append(holding.name)
            missing -= holding.weights_bytes
    return Move(close=tuple(close)) if close else None
