"""Waiting tasks by tenant: each tenant's own in the order they are due, tenants by their turns."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from operator import attrgetter

from argus.control.fairness import FairShares, Share, equal_shares
from argus.control.line import Waiting


@dataclass(slots=True)
class _Queue:
    entries: list[Waiting] = field(default_factory=list)
    least_s: float = 0.0
    """Device seconds that they take at least."""


class Turns:
    """Says which task is next in fairness, and which tenant has the most.

    Args:
        share_of: what a tenant is due now.
    """

    def __init__(self, share_of: Callable[[str], Share] = equal_shares) -> None:
        self._fair = FairShares(share_of)
        self._queues: dict[str, _Queue] = {}
        self._order: list[tuple[float, str]] = []
        self._places: dict[str, float] = {}

    @property
    def tenants(self) -> int:
        """How many have tasks that wait."""
        return len(self._queues)

    def is_alone(self, tenant: str) -> bool:
        """Whether nobody else has tasks that wait."""
        others = len(self._queues)
        return not others or (others == 1 and tenant in self._queues)

    def add(self, entry: Waiting) -> None:
        """Take a task that waits."""
        tenant = entry.task.tenant
        queue = self._queues.get(tenant)
        if queue is None:
            queue = self._queues[tenant] = _Queue()
            self._fair.wait(tenant)
            self._put(tenant)
        entries = queue.entries
        if not entries or entries[-1].key < entry.key:
            entries.append(entry)
        else:
            insort(entries, entry, key=_key)
        queue.least_s += entry.choices.least_s

    def set_aside(self, entry: Waiting) -> None:
        """Take out a task that may come back; until `settle` its tenant keeps its turn."""
        queue = self._queues[entry.task.tenant]
        del queue.entries[bisect_left(queue.entries, entry.key, key=_key)]
        queue.least_s -= entry.choices.least_s

    def settle(self, tenant: str) -> None:
        """Note that what was set aside of a tenant does not come back."""
        queue = self._queues.get(tenant)
        if queue is not None and not queue.entries:
            del self._queues[tenant]
            self._fair.rest(tenant)
            self._take_out(tenant)

    def began(self, entry: Waiting, cost_s: float) -> None:
        """Note that a task which still waits is sent to a node, at so many device seconds."""
        tenant = entry.task.tenant
        self._fair.began(tenant, cost_s)
        if len(self._queues[tenant].entries) > 1:
            # Else it is about to be taken out.
            self._take_out(tenant)
            self._put(tenant)

    def came_back(self, tenant: str, cost_s: float) -> None:
        """Note that a task which was begun was lost with what it had cost."""
        self._fair.came_back(tenant, cost_s)
        if tenant in self._queues:
            self._take_out(tenant)
            self._put(tenant)

    def next(self, passed: Collection[Waiting]) -> Waiting | None:
        """Return the first task of the tenant whose turn it is, leaving out those passed over."""
        for _, tenant in self._order:
            for entry in self._queues[tenant].entries:
                if entry not in passed:
                    return entry
        return None

    def reach_s(self, tenant: str, more_s: float = 0.0) -> float:
        """Return where a tenant's turn will be when all that waits was made at its least.

        Args:
            tenant: whose.
            more_s: device seconds of what is to wait, too.
        """
        queue = self._queues.get(tenant)
        return self._fair.place_s(tenant, more_s + (0.0 if queue is None else queue.least_s))

    def weighed_s(self, tenant: str, seconds: float) -> float:
        """Return the virtual seconds of so many device seconds of a tenant."""
        return self._fair.weighed_s(tenant, seconds)

    def _put(self, tenant: str) -> None:
        place_s = self._places[tenant] = self._fair.place_s(tenant)
        insort(self._order, (place_s, tenant))

    def _take_out(self, tenant: str) -> None:
        known = self._places.pop(tenant), tenant
        del self._order[bisect_left(self._order, known)]


_key = attrgetter("key")
