"""When rows end: what is predicted, and what those that ended say about it.

A prediction is two times, with the rows that a node has and with all of its slots taken. Where
between them rows end is learned (`argus.control.filling`), and so is by how much they take longer
than that explains (`argus.control.margins`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from argus.control.backlog import NodeBacklog, due_s
from argus.control.filling import Filling
from argus.control.line import Waiting
from argus.control.margins import Margins
from argus.control.policy import Task
from argus.control.router import Decision


class Predicted(NamedTuple):
    """Seconds until a row ends.

    Attributes:
        unjoined_s: if no other joins it.
        filled_s: if its node fills up at once.
    """

    unjoined_s: float
    filled_s: float


class Foresight:
    """Predicts ends, and learns from them.

    Args:
        quantile: of rows that are to end by what is predicted.
        filling: off: rows are predicted to step with those that are there, and margins are for all
            that makes them longer.

    Attributes:
        margins: by how much rows take longer than their company explains.
    """

    def __init__(self, quantile: float, filling: bool = True) -> None:
        self._quantile = quantile
        self._with_filling = filling
        self.margins = Margins(quantile)
        self._filling = Filling(quantile)

    def predict(
        self, decision: Decision, task: Task, node: NodeBacklog, now_s: float, held_s: float = 0.0
    ) -> Predicted:
        """Return when a row ends that is begun now.

        Args:
            decision: with the seconds to its end as the node is.
            task: whose deadline says which rows come before it.
            node: of the decision.
            now_s: the time.
            held_s: device seconds that wait for the node.
        """
        unjoined_s = decision.predicted_finish_s
        if node.info.slots == 1 or not self._with_filling:
            return Predicted(unjoined_s, unjoined_s)
        filled_s = node.filled_s(decision.offer.row, due_s(now_s, task.deadline_at_s))
        return Predicted(unjoined_s, decision.offer.fetch_s + filled_s + held_s)

    def may_be_in_time(
        self, decision: Decision, entry: Waiting, node: NodeBacklog, now_s: float
    ) -> bool:
        """Whether a row is likely to end in time if no other joins it."""
        kind, whole_s = node.info.device_name, entry.choices.whole_s
        ends_s = self.margins.with_margin(kind, decision.predicted_finish_s, whole_s)
        return ends_s <= entry.task.deadline_at_s - now_s

    def is_in_time(
        self, decision: Decision, entry: Waiting, node: NodeBacklog, now_s: float, held_s: float
    ) -> bool:
        """Whether a row is likely to end in time with the company that it may get."""
        task = entry.task
        kind = node.info.device_name
        unjoined_s, filled_s = self.predict(decision, task, node, now_s, held_s)
        in_use = len(node) / node.info.slots
        likely_s = self._filling.likely_s(kind, unjoined_s, filled_s, in_use)
        ends_s = self.margins.with_margin(kind, likely_s, entry.choices.whole_s)
        return ends_s <= task.deadline_at_s - now_s

    def is_late(self, predicted: Predicted, task: Task, now_s: float) -> bool:
        """Whether a row is likelier late than not."""
        ends_s = self._filling.typical_s(*predicted) * self.margins.typical
        return ends_s > task.deadline_at_s - now_s

    def note(self, kind: str, predicted: Predicted, took_s: float, whole_s: float = 0.0) -> None:
        """Take in a row that ended on a kind of node; `whole_s` as of `Margins.note`."""
        explained_s = self._filling.note(kind, predicted.unjoined_s, predicted.filled_s, took_s)
        self.margins.note(kind, explained_s, took_s, whole_s)

    @property
    def filling(self) -> float:
        """How far nodes fill up while a row runs, 0 to 1; NaN before anything was learned."""
        return self._filling.largest

    def state(self) -> dict[str, Any]:
        """Return what was learned, ready for JSON."""
        return {
            "margins": self.margins.state(),
            "filling": self._filling.fractions.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on with what another process learned.

        Without what it learned of company its margins are for that, too, and are not taken; nor
        are those that are ratios alone.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: it makes no sense; nothing of it is
                taken then.
        """
        if "filling" not in state or "excesses" not in state["margins"]:
            return
        Margins(self._quantile).restore(state["margins"])
        self._filling.fractions.restore(state["filling"])
        self.margins.restore(state["margins"])
