"""How much is asked for, as the published systems estimate it: counts between plans, averaged."""

from __future__ import annotations


class CountedDemand:
    """Arrivals a second by the counts between plans.

    Args:
        weight: of the newest count in the exponentially weighted average; 1: nothing older counts.
    """

    def __init__(self, weight: float = 1.0) -> None:
        self._weight = weight
        self._count = 0
        self._since_s: float | None = None
        self.rate = 0.0
        """Arrivals a second as of the last update."""

    def arrive(self) -> None:
        """Count one."""
        self._count += 1

    def update(self, now_s: float) -> float:
        """Close the present count; return the rate."""
        if self._since_s is not None and now_s > self._since_s:
            latest = self._count / (now_s - self._since_s)
            weight = self._weight if self.rate else 1.0
            self.rate += weight * (latest - self.rate)
        self._since_s, self._count = now_s, 0
        return self.rate
