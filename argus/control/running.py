"""Rows that nodes were given, and what their ends teach."""

from __future__ import annotations

from typing import NamedTuple

from argus.control.backlog import NodeBacklog
from argus.control.fleet import Fleet
from argus.control.foresight import Foresight, Predicted
from argus.control.line import Waiting
from argus.control.policy import Task
from argus.control.row_costs import RowShape
from argus.control.throughput import Throughput


class Started(NamedTuple):
    """A task that a node was given.

    Attributes:
        entry: as which it waited.
        node, kind: name and kind of the node.
        at_s: when.
        predicted: seconds to its end.
        cost_s: device seconds in full batches.
        alone_s: seconds of the whole row on the node with nothing else to do.
    """

    entry: Waiting
    node: str
    kind: str
    at_s: float
    predicted: Predicted
    cost_s: float
    alone_s: float


class Running:
    """Knows the rows on nodes, and tells of each that ends how long it took.

    Args:
        foresight: is told how long rows take.
        throughput: is told what nodes get done.
    """

    def __init__(self, foresight: Foresight, throughput: Throughput) -> None:
        self._foresight = foresight
        self._throughput = throughput
        self._started: dict[str, Started] = {}
        self._missed: set[str] = set()
        """Those that did not find their state."""
        self._gone: dict[str, int] = {}
        """By node, rows that ended since the last dispatch: their room was not used yet."""

    def dispatch(self) -> None:
        """Note that all room is about to be used."""
        self._gone.clear()

    def begin(
        self, entry: Waiting, node: NodeBacklog, row: RowShape, predicted: Predicted, now_s: float
    ) -> float:
        """Note that a task is given to a node; return its device seconds in full batches."""
        name, kind, cost_s = node.info.name, node.info.device_name, node.device_s(row)
        if len(node) < node.info.slots:
            self._throughput.began(name, now_s)
        self._started[entry.task.id] = Started(
            entry, name, kind, now_s, predicted, cost_s, node.idle_s(row)
        )
        return cost_s

    def take_back(self, task: Task) -> Started:
        """Forget a row that did not end, and return it."""
        started = self._started.pop(task.id)
        self._missed.discard(task.id)
        self._throughput.lost(started.node)
        return started

    def miss(self, task: Task) -> None:
        """Note that a row did not find the state that it was to start from."""
        if task.id in self._started:
            self._missed.add(task.id)

    def end(
        self, task: Task, fleet: Fleet | None, others_wait: bool, now_s: float, made: bool
    ) -> Started:
        """Take in that a row ended, and return what was known of it.

        Args:
            task: whose row.
            fleet: as of the last dispatch, the row's node with the row if it is there; None: there
                was none.
            others_wait: whether tasks wait for room.
            now_s: the time.
            made: whether it was done, not left off.
        """
        started = self._started.pop(task.id)
        done, full = 1.0, False
        if fleet is not None and started.node in fleet:
            done = 1.0 if made else fleet[started.node].share_done(task.id)
            full = others_wait and self._was_full(started.node, fleet)
        self._throughput.ended(started.node, started.cost_s * done, full, now_s, made)
        if task.id in self._missed:
            # It took longer for want of its state, which says nothing about the node.
            self._missed.remove(task.id)
            return started
        took_s = now_s - started.at_s
        if not made and now_s >= task.deadline_at_s:
            # It would have taken its other steps longer, at the least: with less than that, rows
            # that are ended at their deadline would all seem to be made by it.
            took_s += (1.0 - done) * started.alone_s
        if made or took_s > started.predicted.unjoined_s:
            whole_s = started.entry.choices.whole_s
            self._foresight.note(started.kind, started.predicted, took_s, whole_s)
        return started

    def _was_full(self, node: str, fleet: Fleet) -> bool:
        """Whether a node had no free slot at the last dispatch, or took no more rows."""
        gone = self._gone.get(node, 0)
        self._gone[node] = gone + 1
        held = fleet[node]
        return len(held) + gone >= held.info.slots or not fleet.has_room(node, gone)
