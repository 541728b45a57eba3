"""By how much rows take longer than predicted, as learned from those that ended.

A moment in which a node does something else costs a row as many seconds whatever its level. So what
a row took beyond what was predicted counts relative to the longest row that its request might have
become: a short one that lost half a second says that half a second may be lost, not that all rows
may take ten times as long. As ratios of their own seconds the delays of short rows would rule out
all longer levels, then only short rows would be made, and nobody would ever learn better. Where a
request allows short rows only, those that others allow on that kind of node stand for longer ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from argus.control.quantiles import RecentQuantile

_MEMORY_ROWS = 64.0
"""Rows over which the usual longest row is averaged."""


class Margins:
    """A margin on predicted seconds for each kind of node, held by a share of the rows.

    Args:
        share: of the rows that are to end within the predicted seconds and the margin.
        first: the factor before anything was learned.

    Attributes:
        excesses: by kind, 1 and what rows took beyond the predicted seconds, relative to the
            longest of these, of `whole_s` and of what that usually is there.
        ratios: by kind, of actual to predicted seconds.
    """

    def __init__(self, share: float = 0.995, first: float = 1.02) -> None:
        self.excesses = RecentQuantile(share)
        self.ratios = RecentQuantile(0.5)
        self._first = first
        self._usual_s: dict[str, float] = {}

    def note(self, kind: str, predicted_s: float, actual_s: float, whole_s: float = 0.0) -> None:
        """Take in a row that ended.

        Args:
            kind: of its node.
            predicted_s, actual_s: of the row.
            whole_s: seconds of the longest row that its request might have become.
        """
        if predicted_s > 0:
            usual_s = self._usual_s.get(kind, whole_s)
            self._usual_s[kind] = usual_s + (whole_s - usual_s) / _MEMORY_ROWS
            self.ratios.note(kind, actual_s / predicted_s)
            excess = (actual_s - predicted_s) / max(predicted_s, whole_s, usual_s)
            self.excesses.note(kind, 1.0 + excess)

    def factor(self, kind: str) -> float:
        """Return the factor for a kind of node on the longest rows, at least 1 once something was
        learned."""
        return self._of(self.excesses.get(kind))

    def with_margin(self, kind: str, seconds: float, whole_s: float) -> float:
        """Return by when most rows have ended that are predicted to take so many seconds.

        Args:
            kind: of the node.
            seconds: predicted.
            whole_s: as of `note`.
        """
        return seconds + (self.factor(kind) - 1.0) * max(seconds, whole_s)

    @property
    def largest(self) -> float:
        """The largest factor of any kind."""
        return self._of(self.excesses.largest)

    @property
    def typical(self) -> float:
        """The factor that half of the rows need where rows are as predicted best, at least 1: by
        less than it nothing can be hoped for."""
        return max(1.0, self.ratios.least_median or 1.0)

    def state(self) -> dict[str, Any]:
        """Return what was learned, ready for JSON."""
        return {"excesses": self.excesses.state(), "ratios": self.ratios.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on with what another process learned.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: it makes no sense; nothing of it is
                taken then.
        """
        RecentQuantile(0.5).restore(state["ratios"])
        self.excesses.restore(state["excesses"])
        self.ratios.restore(state["ratios"])

    def _of(self, ratio: float | None) -> float:
        return self._first if ratio is None else max(1.0, ratio)
