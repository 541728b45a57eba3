"""Clipper (Crankshaw et al., NSDI 2017), at one level for everybody.

Clipper serves a model that its user chose; what it adapts is the batch. Clipper-HA has chosen the
best level, Clipper-HT the fastest. Batches grow by one while they meet the latency objective and
shrink by a tenth when they do not (AIMD, its section 4.3.1). Where a node steps rows of several
requests together that is a limit on the rows it holds; where it makes one after the other there is
nothing to adapt.
"""

from __future__ import annotations

from argus.control.fleet import Fleet
from argus.control.policies.early import EarlyPolicy
from argus.control.policies.options import PolicyOptions
from argus.control.policies.queues import NodeQueue
from argus.control.policy import Task

_SHRINK = 0.9


class AdaptiveLimit:
    """How many rows a node may hold: up by one a batch, down by a tenth after a slow one."""

    def __init__(self) -> None:
        self.rows = 1.0
        self._cut_s = float("-inf")

    def note(self, held: int, started_s: float, now_s: float, objective_s: float) -> None:
        """Take in a row that ended.

        Args:
            held: rows that the node held with it.
            started_s: when it was given to the node; rows that were there at the last cut do not
                cut again.
            now_s: when it ended.
            objective_s: within which a batch should be done.
        """
        if now_s - started_s <= objective_s:
            if held >= int(self.rows):
                self.rows += 1.0 / self.rows
        elif started_s > self._cut_s:
            self.rows = max(1.0, _SHRINK * self.rows)
            self._cut_s = now_s


class ClipperPolicy(EarlyPolicy):
    """See the module's text.

    Args:
        options: settings.
        fastest: whether all is made at the fastest level; else at the best.
    """

    def __init__(self, options: PolicyOptions, fastest: bool) -> None:
        super().__init__(options)
        self._is_fast = fastest
        self._fastest = 0
        self._limits: dict[str, AdaptiveLimit] = {}

    def level(self, task: Task, node: str) -> int:
        """Return the best or the fastest rank."""
        return self._fastest if self._is_fast else 0

    def levels_changed(self, fleet: Fleet) -> None:
        """Find the fastest level."""
        self._fastest = self.seen.fastest(fleet)

    def takes(self, queue: NodeQueue) -> bool:
        """Whether the node holds less than a batch."""
        return len(queue.rows) < int(self._limit(queue.name).rows)

    def ended(self, task: Task, now_s: float, made: bool = True) -> None:
        """Note that a started task is done, and whether its batch was quick enough."""
        name, started_s = self.queues.ended(task, now_s)
        queue = self.queues.by_node.get(name)
        if queue is not None:
            objective_s = task.deadline_at_s - task.arrived_s
            self._limit(name).note(len(queue.rows) + 1, started_s, now_s, objective_s)

    def _limit(self, node: str) -> AdaptiveLimit:
        return self._limits.setdefault(node, AdaptiveLimit())


def make_clipper_ha(options: PolicyOptions) -> ClipperPolicy:
    """Return Clipper with the best level."""
    return ClipperPolicy(options, fastest=False)


def make_clipper_ht(options: PolicyOptions) -> ClipperPolicy:
    """Return Clipper with the fastest level."""
    return ClipperPolicy(options, fastest=True)
