"""By how much rows take longer than predicted, as learned from those that ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from argus.control.quantiles import RecentQuantile


class Margins:
    """A factor on predicted seconds for each kind of node, held by a share of the rows.

    Args:
        share: of the rows that are to end within the predicted seconds times the factor.
        first: the factor before anything was learned.
    """

    def __init__(self, share: float = 0.995, first: float = 1.02) -> None:
        self._ratios = RecentQuantile(share)
        self._first = first

    def note(self, kind: str, predicted_s: float, actual_s: float) -> None:
        """Take in a row that ended."""
        if predicted_s > 0:
            self._ratios.note(kind, actual_s / predicted_s)

    def factor(self, kind: str) -> float:
        """Return the factor for a kind of node, at least 1 once something was learned."""
        return self._of(self._ratios.get(kind))

    @property
    def largest(self) -> float:
        """The largest factor of any kind."""
        return self._of(self._ratios.largest)

    def state(self) -> dict[str, list[float]]:
        """Return the ratios of actual to predicted seconds by kind, ready for JSON."""
        return self._ratios.state()

    def restore(self, state: Mapping[str, Sequence[float]]) -> None:
        """Go on with ratios that another process saw.

        Raises:
            ValueError: they make no sense; nothing of them is taken then.
        """
        self._ratios.restore(state)

    def _of(self, ratio: float | None) -> float:
        return self._first if ratio is None else max(1.0, ratio)
