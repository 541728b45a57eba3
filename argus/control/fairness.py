"""In which order tenants are served: weighted fair shares of device time, and no starvation.

Start-time fair queueing (Goyal, Vin & Cheng, SIGCOMM 1996). Virtual time goes by as work is begun.
Each request gets a start tag, the later of the virtual time and the end of its tenant's request
before it, and ends `cost / weight` after its tag; whatever has the smallest tag goes next. Whoever
was idle starts at the present and has saved up nothing. While two tenants i and j both wait, the
device time they are given, divided by their weights, differs by at most c_i / w_i + c_j / w_j,
where c is the cost of a tenant's costliest request; that holds whatever the speed of the cluster.

Priority goes before in the manner of borrowed virtual time (Duda & Cheriton, SOSP 1999): a tag is
drawn forward by a fixed head start. That shortens waits and leaves long-run shares alone, and since
virtual time passes every tag, nobody waits for ever, whatever the priorities of others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

HEAD_START_S = 5.0
"""Seconds of virtual time that each step of priority draws a request forward."""
TIDY_AT = 1024
"""Tenants of which account is kept before those that are idle are looked for."""


@dataclass(frozen=True, slots=True)
class Share:
    """What a tenant is due: `weight` above 0 relative to others, `priority` of at least 0."""

    weight: float = 1.0
    priority: int = 0


class FairShares:
    """Gives each request the tag that it waits by, the smallest first.

    Call `tag` once when a request begins to wait, and `began` when it is sent to a node: virtual
    time stands still without. Call `gave_up` where it ends without having begun.

    Args:
        share_of: what a tenant is due now.
    """

    def __init__(self, share_of: Callable[[str], Share] = lambda tenant: Share()) -> None:
        self._share_of = share_of
        self._virtual_s = 0.0
        self._ends_s: dict[str, float] = {}
        self._tidy_at = TIDY_AT

    @property
    def virtual_s(self) -> float:
        """The virtual time: the largest start of what has begun."""
        return self._virtual_s

    def tag(self, tenant: str, cost_s: float, now_s: float) -> float:
        """Return the tag of a request.

        Args:
            tenant: whose it is.
            cost_s: device seconds that it is predicted to take, at least 0.
            now_s: monotonic, as all decisions are given it; not used, since virtual time goes by
                work, so that the shares hold at whatever speed the cluster runs.
        """
        share = self._share_of(tenant)
        self._tidy()
        start_s = max(self._virtual_s, self._ends_s.get(tenant, 0.0))
        self._ends_s[tenant] = start_s + cost_s / share.weight
        return start_s - HEAD_START_S * share.priority

    def began(self, tenant: str, tag: float) -> None:
        """Note that the request of that tag was sent to a node: virtual time reaches its start."""
        start_s = tag + HEAD_START_S * self._share_of(tenant).priority
        self._virtual_s = max(self._virtual_s, start_s)

    def gave_up(self, tenant: str, cost_s: float) -> None:
        """Note that a request ended without having begun: its tenant's next comes sooner."""
        end_s = self._ends_s.get(tenant)
        if end_s is not None:
            self._ends_s[tenant] = end_s - cost_s / self._share_of(tenant).weight

    def __len__(self) -> int:
        return len(self._ends_s)

    def _tidy(self) -> None:
        """Forget tenants that would start at the present anyway."""
        if len(self._ends_s) < self._tidy_at:
            return
        self._ends_s = {t: end_s for t, end_s in self._ends_s.items() if end_s > self._virtual_s}
        self._tidy_at = max(TIDY_AT, 2 * len(self._ends_s))
