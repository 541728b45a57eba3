"""Whose turn it is: weighted fair shares of device time, and no starvation.

Start-time fair queueing (Goyal, Vin & Cheng, SIGCOMM 1996). Virtual time goes by as work is begun.
A tenant that begins to wait gets a turn, the later of the virtual time and the end of its last
piece of work; what is begun for it ends `cost / weight` after its turn, and there its next turn is.
The smallest turn goes next. Whoever was idle starts at the present and has saved up nothing. While
two tenants i and j both wait, the device time they are given, divided by their weights, differs by
at most c_i / w_i + c_j / w_j, where c is the cost of a tenant's costliest piece; that holds
whatever the speed of the cluster. What a piece costs needs to be known when it is begun only, so a
level may be chosen then, and which of a tenant's requests uses a turn is the tenant's own matter.

Priority goes before in the manner of borrowed virtual time (Duda & Cheriton, SOSP 1999): a turn is
drawn forward by a fixed head start. That shortens waits and leaves long-run shares alone, and since
virtual time passes every turn, nobody waits for ever, whatever the priorities of others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

HEAD_START_S = 5.0
"""Seconds of virtual time that each step of priority draws a turn forward."""
TIDY_AT = 1024
"""Tenants of which account is kept before those that are idle are looked for."""


@dataclass(frozen=True, slots=True)
class Share:
    """What a tenant is due: `weight` above 0 relative to others, `priority` of at least 0."""

    weight: float = 1.0
    priority: int = 0


EQUAL = Share()
"""What everybody is due where nothing else was said."""


def equal_shares(tenant: str) -> Share:
    """Return the same share for all."""
    return EQUAL


class FairShares:
    """Keeps the virtual time, and the turn of every tenant that waits.

    Args:
        share_of: what a tenant is due now.
    """

    def __init__(self, share_of: Callable[[str], Share] = equal_shares) -> None:
        self._share_of = share_of
        self._virtual_s = 0.0
        self._turns_s: dict[str, float] = {}
        self._ends_s: dict[str, float] = {}
        self._tidy_at = TIDY_AT

    @property
    def virtual_s(self) -> float:
        """The virtual time: the largest turn of what has begun."""
        return self._virtual_s

    def wait(self, tenant: str) -> None:
        """Note that a tenant has work waiting from now on; it may have had some already."""
        if tenant not in self._turns_s:
            self._tidy()
            self._turns_s[tenant] = max(self._virtual_s, self._ends_s.get(tenant, 0.0))

    def rest(self, tenant: str) -> None:
        """Note that nothing of a tenant waits any more."""
        self._turns_s.pop(tenant, None)

    def place_s(self, tenant: str, more_s: float = 0.0) -> float:
        """Return where in virtual time a tenant's turn counts, its head start taken off.

        Args:
            tenant: which may wait or not.
            more_s: device seconds that are begun for it before.
        """
        share = self._share_of(tenant)
        turn_s = self._turns_s.get(tenant)
        if turn_s is None:
            turn_s = max(self._virtual_s, self._ends_s.get(tenant, 0.0))
        return turn_s + more_s / share.weight - HEAD_START_S * share.priority

    def weighed_s(self, tenant: str, seconds: float) -> float:
        """Return the virtual seconds of so many device seconds."""
        return seconds / self._share_of(tenant).weight

    def began(self, tenant: str, cost_s: float) -> None:
        """Note that work of a tenant that waits was sent to a node.

        Args:
            tenant: whose turn it was.
            cost_s: device seconds that it is predicted to take, at least 0.
        """
        turn_s = self._turns_s[tenant]
        if turn_s > self._virtual_s:
            self._virtual_s = turn_s
        end_s = turn_s + cost_s / self._share_of(tenant).weight
        self._turns_s[tenant] = self._ends_s[tenant] = end_s

    def came_back(self, tenant: str, cost_s: float) -> None:
        """Note that what was begun was for nothing: the tenant's next turn comes sooner."""
        given_s = cost_s / self._share_of(tenant).weight
        for account in (self._turns_s, self._ends_s):
            if tenant in account:
                account[tenant] -= given_s

    def __len__(self) -> int:
        return len(self._ends_s)

    def _tidy(self) -> None:
        """Forget tenants that would start at the present anyway."""
        if len(self._ends_s) < self._tidy_at:
            return
        self._ends_s = {t: end_s for t, end_s in self._ends_s.items() if end_s > self._virtual_s}
        self._tidy_at = max(TIDY_AT, 2 * len(self._ends_s))
