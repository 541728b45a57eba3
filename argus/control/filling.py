"""How far nodes fill up while a row runs, as learned from those that ended.

A row that steps with others takes longer the more of them there are, and who joins later cannot be
foreseen. Its end lies between two times that can: as the node is now, and with its forwards full
from now on. Where between them is remembered, so that a row on a half-empty node is given the time
that it may come to, and one on a full node, which nobody can slow down any more, none beyond it.
"""

from __future__ import annotations

from collections import deque

_REMEMBERED = 512
_LEARN_EVERY = 32
_LEARN_FIRST = 8
"""Rows after which something is learned as long as there are few: a cluster that fills up after its
start should not wait for many."""
_APART = 1.1
"""Times the first the second is at least, for a row to tell anything: all else that makes rows
longer or shorter would be taken for company."""


class Filling:
    """A share of the way between the two times for each kind of node, held by most rows.

    Args:
        share: of the rows that are to end by then.
    """

    def __init__(self, share: float = 0.995) -> None:
        self._share = share
        self._ways: dict[str, deque[float]] = {}
        self._learned: dict[str, float] = {}
        self._since: dict[str, int] = {}

    def note(self, kind: str, lonely_s: float, crowded_s: float, actual_s: float) -> None:
        """Take in a row that ended.

        Args:
            kind: of the node.
            lonely_s: predicted seconds, had no row joined.
            crowded_s: the same, had the node been full.
            actual_s: what it took.
        """
        if crowded_s < _APART * lonely_s:
            return
        ways = self._ways.setdefault(kind, deque(maxlen=_REMEMBERED))
        ways.append(min(1.0, max(0.0, (actual_s - lonely_s) / (crowded_s - lonely_s))))
        self._since[kind] = self._since.get(kind, 0) + 1
        if self._since[kind] >= (_LEARN_EVERY if len(ways) > _LEARN_EVERY else _LEARN_FIRST):
            self._since[kind] = 0
            ordered = sorted(ways)
            self._learned[kind] = ordered[int(self._share * (len(ordered) - 1))]

    def likely_s(self, kind: str, lonely_s: float, crowded_s: float, taken: float = 0.0) -> float:
        """Return the seconds by which most rows end.

        Args:
            kind: of the node.
            lonely_s, crowded_s: as of `note`.
            taken: share of the node's slots that are. Until something was learned a node fills up
                once half of them are.
        """
        way = self._learned.get(kind)
        if way is None:
            way = min(1.0, 2.0 * taken)
        return lonely_s + way * max(0.0, crowded_s - lonely_s)
