"""How far nodes fill up while a row runs, as learned from those that ended.

A row that steps with others takes longer the more of them there are, and who joins later cannot be
foreseen. Its end lies between two times that can: with no other row than those that are there, and
with the node's slots filled at once. Where between them is remembered, so that a row on a
half-empty node is given the time that it may come to, and one on a full node, which nobody can slow
down any more, none beyond it.
"""

from __future__ import annotations

import math

from argus.control.quantiles import RecentQuantile

_LEARN_FIRST = 8
"""Rows after which something is learned: a cluster that fills up after its start should not wait
for many."""
_APART = 1.1
"""Times the first the second is at least, for a row to tell anything: all else that makes rows
longer or shorter would be taken for company."""


class Filling:
    """A fraction of the way between the two times for each kind of node, held by most rows.

    Args:
        quantile: of the fractions of rows that ended.

    Attributes:
        fractions: by kind.
    """

    def __init__(self, quantile: float = 0.995) -> None:
        self.fractions = RecentQuantile(quantile, _LEARN_FIRST, most=1.0)

    def note(self, kind: str, unjoined_s: float, filled_s: float, actual_s: float) -> float:
        """Take in a row that ended; return the seconds that its company explains.

        What is longer than these is for a margin.

        Args:
            kind: of the node.
            unjoined_s: predicted seconds, had no row joined.
            filled_s: the same, had the node been full.
            actual_s: what it took.
        """
        if filled_s <= 0 or filled_s < _APART * unjoined_s:
            return unjoined_s
        fraction = (actual_s - unjoined_s) / (filled_s - unjoined_s)
        fraction = min(1.0, max(0.0, fraction))
        self.fractions.note(kind, fraction)
        return unjoined_s + fraction * (filled_s - unjoined_s)

    def likely_s(
        self, kind: str, unjoined_s: float, filled_s: float, slots_in_use: float = 0.0
    ) -> float:
        """Return the seconds by which most rows end, at least `unjoined_s`.

        Args:
            kind: of the node.
            unjoined_s, filled_s: as of `note`.
            slots_in_use: share of the node's slots. Until something was learned a node is taken to
                fill up once half of them are.
        """
        fraction = self.fractions.get(kind)
        if fraction is None:
            fraction = min(1.0, 2.0 * slots_in_use)
        return unjoined_s + fraction * max(0.0, filled_s - unjoined_s)

    def typical_s(self, unjoined_s: float, filled_s: float) -> float:
        """Return the seconds by which half of the rows end on the kind of node that fills up least;
        `unjoined_s` until something was learned."""
        fraction = self.fractions.least_median or 0.0
        return unjoined_s + fraction * max(0.0, filled_s - unjoined_s)

    @property
    def largest(self) -> float:
        """The largest fraction of any kind; NaN before any was learned."""
        largest = self.fractions.largest
        return math.nan if largest is None else largest
