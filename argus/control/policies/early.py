"""What the re-implemented systems have in common: each request joins a node's queue at once."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from argus.control.admission import check_possible
from argus.control.backlog import NodeBacklog
from argus.control.fleet import Fleet
from argus.control.offers import Offer
from argus.control.policies.ladder import SeenLevels
from argus.control.policies.options import PolicyOptions
from argus.control.policies.queues import NodeQueue, Queues
from argus.control.policy import GiveUp, Start, Task
from argus.control.router import Decision
from argus.errors import UnavailableError


class EarlyPolicy(ABC):
    """First come first served on the node with the least to do, at a level that a subclass names.

    Args:
        options: settings.
    """

    def __init__(self, options: PolicyOptions) -> None:
        self.options = options
        self.seen = SeenLevels()
        self.queues = Queues(options.shed, self.takes)

    # -- what subclasses decide -----------------------------------------------------------------

    @abstractmethod
    def level(self, task: Task, node: str) -> int:
        """Return the rank among the levels seen that a task is made at on a node."""

    def node(self, task: Task, able: list[str], now_s: float) -> str:
        """Return one of the nodes that can make a task: the one that is done first."""
        return self.queues.shortest(able, now_s)

    def takes(self, queue: NodeQueue) -> bool:
        """Whether a node that has room is given another row."""
        return True

    def arrived(self, task: Task) -> None:  # noqa: B027 (not every policy counts)
        """Note a new task, whose levels were seen."""

    def levels_changed(self, fleet: Fleet) -> None:  # noqa: B027 (nor needs the fastest)
        """Note that a level was seen for the first time, or that the nodes are others."""

    def nodes_changed(self, fleet: Fleet, now_s: float) -> None:  # noqa: B027 (nor plans)
        """Note that nodes came, went or drain."""

    # -- the protocol ---------------------------------------------------------------------------

    def admit(self, task: Task, fleet: Fleet, now_s: float) -> Decision:
        """Take a new task; see `argus.control.policy.Policy`."""
        self._refresh(fleet, now_s)
        left_s = task.deadline_at_s - now_s if self.options.shed else math.inf
        check_possible(_idle_s(task.offers, fleet), left_s)
        if self.seen.see(task.offers):
            self.levels_changed(fleet)
        self.arrived(task)
        bound = self.bind(task, fleet, now_s)
        if bound is None:
            raise UnavailableError("no node that could make this image is connected")
        return bound

    def dispatch(self, fleet: Fleet, now_s: float) -> Iterator[Start | GiveUp]:
        """Yield what to do now; see `argus.control.policy.Policy`."""
        self._refresh(fleet, now_s)
        return self.queues.dispatch(fleet, now_s)

    def withdraw(self, task: Task) -> None:
        """Forget a task that waits."""
        self.queues.withdraw(task)

    def put_back(self, task: Task) -> None:
        """Take a started task back; it gets a node with the next dispatch."""
        self.queues.ended(task, None)
        self.queues.stranded.append(task)

    def fetched(self, task: Task, hit: bool) -> None:  # noqa: B027
        """Do nothing: none of these systems is known to learn from it."""

    def ended(self, task: Task, now_s: float, made: bool = True) -> None:
        """Note that a started task is done, failed or cancelled."""
        self.queues.ended(task, now_s)

    def plan(self, fleet: Fleet, now_s: float) -> float:
        """Do nothing."""
        return math.inf

    # -- binding --------------------------------------------------------------------------------

    def bind(self, task: Task, fleet: Fleet, now_s: float) -> Decision | None:
        """Let a task join a queue; None where no node can make it."""
        able = self._able(task, fleet)
        if not able:
            return None
        name = self.node(task, able, now_s)
        offer, work_s = self.made(task, fleet[name])
        wait_s = self.queues.by_node[name].wait_s(now_s)
        self.queues.join(name, task, offer, work_s, first=task.lost)
        return Decision(offer, name, wait_s + offer.fetch_s + fleet[name].idle_s(offer.row))

    def made(self, task: Task, node: NodeBacklog) -> tuple[Offer, float]:
        """Return what a task is made as on a node, and its device seconds there."""
        offer = self.seen.nearest(_open(task, node), self.level(task, node.info.name))
        return offer, node.device_s(offer.row)

    def relabel(self, fleet: Fleet) -> None:
        """Make what waits at the levels that hold now."""
        for name in self.queues.by_node:
            node = fleet[name]
            self.queues.relabel(name, lambda task, node=node: self.made(task, node))  # type: ignore[misc]

    def _able(self, task: Task, fleet: Fleet) -> list[str]:
        able = [name for name in self.queues.by_node if _open(task, fleet[name])]
        if not task.avoid:
            return able
        return [name for name in able if name not in task.avoid] or able

    def _refresh(self, fleet: Fleet, now_s: float) -> None:
        if self.queues.refresh(fleet, now_s):
            self.levels_changed(fleet)
            self.nodes_changed(fleet, now_s)
        self._bind_stranded(fleet, now_s)

    def _bind_stranded(self, fleet: Fleet, now_s: float) -> None:
        if self.queues.stranded:
            stranded, self.queues.stranded = self.queues.stranded, []
            for task in stranded:
                if self.bind(task, fleet, now_s) is None:
                    self.queues.stranded.append(task)


def _idle_s(offers: Sequence[Offer], fleet: Fleet) -> float | None:
    """Return the least seconds that any offer takes on an idle node; None without a node."""
    found = [(offer, fleet.costs(offer.row)) for offer in offers]
    return min((o.fetch_s + costs.idle_s for o, costs in found if costs is not None), default=None)


def _open(task: Task, node: NodeBacklog) -> list[Offer]:
    """Return the offers that a node can make; fallbacks only where there are no others."""
    name = node.info.name
    able = [o for o in task.offers if node.holds(o.row.variant) and o.may_run_on(name)]
    return [offer for offer in able if not offer.fallback] or able
