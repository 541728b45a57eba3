"""Which variants a true node holds, by the rule that the engine itself has for it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from argus.engine.moves import SHORTEST_STAY_S, STAY_IN_MOVES, Holding, choose_move
from argus.sim.node import Row


@dataclass(slots=True)
class _Variant:
    load_s: float
    resident: bool
    loading: bool = False
    closing: bool = False
    rows: int = 0
    """Of it on the device."""
    used_s: float = 0.0
    since_s: float = 0.0


class Residency:
    """Lets rows through to the device whose variant is there; loads go on behind them.

    Args:
        room: variants that fit.
        load_s: seconds to load each, in the ladder's order; the first ones are there at once.
    """

    def __init__(self, room: int, load_s: Mapping[str, float]) -> None:
        self._free = max(0, room - len(load_s))
        self._variants = {
            name: _Variant(seconds, resident=place < room)
            for place, (name, seconds) in enumerate(load_s.items())
        }
        self._waiting: dict[str, list[Row]] = {}
        self.next_s = math.inf
        """When a load is done or a variant had its shortest stay."""
        self._ready: tuple[float, str] | None = None

    def take(self, row: Row, now_s: float) -> list[Row]:
        """Take a row; return it if it may go to the device now."""
        variant = self._variants[row.variant]
        if variant.resident and not variant.closing:
            variant.rows += 1
            return [row]
        self._waiting.setdefault(row.variant, []).append(row)
        self._move(now_s)
        return []

    def ended(self, row: Row, now_s: float) -> None:
        """Note that a row left the device."""
        variant = self._variants[row.variant]
        variant.rows -= 1
        variant.used_s = now_s
        if self._waiting:
            self._move(now_s)

    @property
    def resident(self) -> tuple[str, ...]:
        """Variants on the device."""
        return tuple(name for name, variant in self._variants.items() if variant.resident)

    def order(self, load: str, park: tuple[str, ...], now_s: float) -> bool:
        """Carry out an order; return whether it is being carried out, else nothing is done.

        It is done when `load` is resident.
        """
        out = [name for name in park if self._variants[name].resident]
        if self._ready is not None or any(self._variants[name].rows for name in out):
            return False
        into = self._variants[load] if load else None
        if into is not None and not into.resident:
            if self._free + len(out) < 1:
                return False
            self._load(load, tuple(out), now_s)
        else:
            for name in out:
                self._variants[name].resident = False
            self._free += len(out)
        return True

    def advance(self, now_s: float) -> list[Row]:
        """Let happen what happens at `next_s`; return the rows that may go to the device."""
        rows: list[Row] = []
        if self._ready is not None and self._ready[0] <= now_s:
            name = self._ready[1]
            self._ready = None
            variant = self._variants[name]
            variant.resident, variant.loading = True, False
            variant.since_s = variant.used_s = now_s
            rows = self._waiting.pop(name, [])
            variant.rows += len(rows)
        self._move(now_s)
        return rows + self._let_in()

    def _let_in(self) -> list[Row]:
        """Return the rows that waited for a variant which is there and need not leave."""
        rows: list[Row] = []
        for name in tuple(self._waiting):
            variant = self._variants[name]
            if variant.resident and not variant.closing:
                waiting = self._waiting.pop(name)
                variant.rows += len(waiting)
                rows += waiting
        return rows

    def _move(self, now_s: float) -> None:
        self.next_s = math.inf
        if self._ready is not None:
            # One background thread loads.
            self.next_s = self._ready[0]
            return
        wanted = {
            name: min(row.due_s for row in rows)
            for name, rows in self._waiting.items()
            if not self._variants[name].resident
        }
        if not wanted:
            self._reopen(now_s)
            return
        holdings = [self._holding(name, x) for name, x in self._variants.items() if not x.loading]
        move = choose_move(holdings, wanted, self._free, now_s)
        for name in move.close if move else ():
            self._variants[name].closing = True
        if move is not None and move.into is not None:
            self._load(move.into, move.out, now_s)
        else:
            self.next_s = min(
                (x.since_s + _stay_s(x) for x in self._variants.values() if _may_close(x, now_s)),
                default=math.inf,
            )

    def _load(self, name: str, out: tuple[str, ...], now_s: float) -> None:
        for other in out:
            self._variants[other].resident = False
        self._free += len(out) - 1
        self._variants[name].loading = True
        self._ready = (now_s + self._variants[name].load_s, name)
        self.next_s = self._ready[0]
        self._reopen(now_s)

    def _reopen(self, now_s: float) -> None:
        """Let variants take rows again that no other one needs the room of."""
        for name, variant in self._variants.items():
            variant.closing = False
            if variant.resident and name in self._waiting:
                self.next_s = now_s

    def _holding(self, name: str, variant: _Variant) -> Holding:
        return Holding(
            name=name,
            weights_bytes=1,
            resident=variant.resident,
            pinned=False,
            busy=variant.rows > 0,
            closing=variant.closing,
            used_s=variant.used_s,
            since_s=variant.since_s,
            move_s=variant.load_s,
        )


def _stay_s(variant: _Variant) -> float:
    return max(SHORTEST_STAY_S, STAY_IN_MOVES * variant.load_s)


def _may_close(variant: _Variant, now_s: float) -> bool:
    """Whether it may be closed later, but not yet."""
    return (
        variant.resident
        and variant.rows > 0
        and not variant.closing
        and variant.since_s + _stay_s(variant) > now_s
    )
