"""By how much rows take longer than predicted, as learned from those that ended."""

from __future__ import annotations

from argus.control.quantiles import RecentQuantile


class Margins:
    """A factor on predicted seconds for each kind of node, held by a share of the rows.

    Args:
        share: of the rows that are to end within the predicted seconds times the factor.
        first: the factor before anything was learned.

    Attributes:
        ratios: of actual to predicted seconds, by kind.
    """

    def __init__(self, share: float = 0.995, first: float = 1.02) -> None:
        self.ratios = RecentQuantile(share)
        self._first = first

    def note(self, kind: str, predicted_s: float, actual_s: float) -> None:
        """Take in a row that ended."""
        if predicted_s > 0:
            self.ratios.note(kind, actual_s / predicted_s)

    def factor(self, kind: str) -> float:
        """Return the factor for a kind of node, at least 1 once something was learned."""
        return self._of(self.ratios.get(kind))

    @property
    def largest(self) -> float:
        """The largest factor of any kind."""
        return self._of(self.ratios.largest)

    @property
    def typical(self) -> float:
        """The factor that half of the rows need where rows are as predicted best, at least 1: by
        less than it nothing can be hoped for."""
        return max(1.0, self.ratios.least_median or 1.0)

    def _of(self, ratio: float | None) -> float:
        return self._first if ratio is None else max(1.0, ratio)
