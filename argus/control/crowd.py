"""Who may add a request to those in flight, where their number is bounded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from argus.control.fairness import Share, equal_shares

PRESSING_S = 10.0
"""For so long after it was turned away, room is kept for a tenant that has less than its share."""


class Crowd:
    """Requests in flight by tenant.

    One tenant alone may have as many as are allowed. While another, which has less than its share
    of them, was turned away lately, nobody else may go beyond its own share: so whoever came first
    and filled everything gives up as much as others want, as its requests end.

    Args:
        most: how many may be in flight.
        share_of: what a tenant is due now.
    """

    def __init__(self, most: int, share_of: Callable[[str], Share] = equal_shares) -> None:
        self._most = most
        self._share_of = share_of
        self._in_flight: Counter[str] = Counter()
        self._pressing: dict[str, float] = {}

    def may_enter(self, tenant: str, now_s: float) -> bool:
        """Return whether one more of a tenant may come in; note that it wanted to."""
        total = self._in_flight.total()
        if not self._pressing and total < self._most:
            return True
        self._pressing = {t: s for t, s in self._pressing.items() if now_s - s < PRESSING_S}
        below = self._in_flight[tenant] < self._due(tenant)
        if total < self._most and (below or not self._pressing.keys() - {tenant}):
            return True
        if below:
            self._pressing[tenant] = now_s
        return False

    def enter(self, tenant: str) -> None:
        """Note that one came in."""
        self._in_flight[tenant] += 1
        if tenant in self._pressing and self._in_flight[tenant] >= self._due(tenant):
            del self._pressing[tenant]

    def leave(self, tenant: str) -> None:
        """Note that one ended."""
        self._in_flight[tenant] -= 1
        if not self._in_flight[tenant]:
            del self._in_flight[tenant]

    def _due(self, tenant: str) -> float:
        """Return how many a tenant may have beside those who have or want some."""
        others = (self._in_flight.keys() | self._pressing.keys()) - {tenant}
        own = self._share_of(tenant).weight
        return self._most * own / (own + sum(self._share_of(other).weight for other in others))
