"""What the control plane believes of simulated nodes: live code, told what a node would report."""

from __future__ import annotations

import math

from argus.clock import Clock
from argus.control.backlog import NodeBacklog
from argus.control.row_costs import RowShape
from argus.sim.node import TrueNode
from argus.types import NodeInfo


class ReportedBacklog(NodeBacklog):
    """A backlog that has heard of every step its node has made by now.

    Live nodes report each step when it is done. Here the reports are taken in when somebody asks
    for what depends on them, which comes to the same and costs nothing when nobody does.

    Args:
        info: what the node says of itself.
        node: whose steps are reported.
        clock: of the run.
    """

    def __init__(self, info: NodeInfo, node: TrueNode, clock: Clock) -> None:
        super().__init__(info)
        self._node = node
        self._clock = clock
        self._heard_at_s = -math.inf
        self.silent = False
        """Whether the node is dead, so that nothing is heard of it any more."""

    def finish_s(self, shape: RowShape, due_s: float = math.inf) -> float:
        """Return the seconds until a row added now, due at `due_s`, would be done."""
        self._hear()
        return super().finish_s(shape, due_s)

    def filled_s(self, shape: RowShape, due_s: float = math.inf) -> float:
        """Return the seconds until a row added now would be done, were all slots taken with it."""
        self._hear()
        return super().filled_s(shape, due_s)

    def work_s(self) -> float:
        """Return the device seconds that its rows still take in full batches."""
        self._hear()
        return super().work_s()

    def drained_s(self) -> float:
        """Return the seconds until every row is done; 0 without rows."""
        self._hear()
        return super().drained_s()

    def next_free_s(self) -> float:
        """Return the seconds until the first row is done; 0 without rows."""
        self._hear()
        return super().next_free_s()

    def share_done(self, row_id: str) -> float:
        """Return the share of a row's steps that were reported; 1 of an unknown row.

        Of one that was just given up it is what was heard at the last question: a little less than
        a live node would have said.
        """
        self._hear()
        return super().share_done(row_id)

    def at_an_edge(self, row_id: str) -> bool:
        """Whether a row has not done its first step yet, or has done its last."""
        self._hear()
        return super().at_an_edge(row_id)

    def _hear(self) -> None:
        now_s = self._clock.now()
        if now_s > self._heard_at_s and len(self) and not self.silent:
            self._heard_at_s = now_s
            for row, steps in self._node.steps_done(now_s):
                if steps:
                    self.progress(row.task.id, steps)
