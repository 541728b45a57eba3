"""Early binding, as the published systems do it: each request gets a node when it comes.

Each node has a queue of its own, first come first served. What a request is made at is asked of
the policy when it joins a queue, and again when the policy says that levels have changed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from argus.control.fleet import Fleet
from argus.control.offers import Offer
from argus.control.policy import GiveUp, Start, Task
from argus.control.router import Decision
from argus.errors import DeadlineError

_FIT = 1e-9
"""Seconds by which a row that just fits may seem to miss its deadline, by rounding."""


@dataclass(slots=True, eq=False)
class Queued:
    """A task in a node's queue, with the offer that it is to be made as."""

    task: Task
    offer: Offer
    work_s: float


class NodeQueue:
    """What waits for one node, and when the node is done with what it has."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.line: deque[Queued] = deque()
        self.queued_s = 0.0
        """Device seconds of the line."""
        self.rows: dict[str, float] = {}
        """Device seconds of started rows, by task."""
        self._ends_s = 0.0

    def wait_s(self, now_s: float) -> float:
        """Return the seconds until a row that joins now can begin, if the node's batches fill."""
        return max(0.0, self._ends_s - now_s) + self.queued_s

    def join(self, entry: Queued, first: bool = False) -> None:
        """Put an entry at the end of the line, or before all others."""
        if first:
            self.line.appendleft(entry)
        else:
            self.line.append(entry)
        self.queued_s += entry.work_s

    def leave(self, entry: Queued) -> None:
        """Take an entry out of the line."""
        self.line.remove(entry)
        self.queued_s = self.queued_s - entry.work_s if self.line else 0.0

    def start(self, entry: Queued, now_s: float) -> None:
        """Note that an entry's row was given to the node."""
        self.rows[entry.task.id] = entry.work_s
        self._ends_s = max(self._ends_s, now_s) + entry.work_s

    def end(self, task_id: str, now_s: float | None = None) -> None:
        """Note that a row left the node: done at `now_s`, or lost."""
        work_s = self.rows.pop(task_id)
        if not self.rows and now_s is not None:
            self._ends_s = now_s
        elif now_s is None:
            self._ends_s -= work_s


class Queues:
    """The queues of a fleet, kept up as nodes come and go.

    Args:
        shed: whether what cannot be on time any more is dropped when its turn comes.
        room: whether a policy lets a node take another row, beside the fleet's own opinion.
    """

    def __init__(self, shed: bool, room: Callable[[NodeQueue], bool] | None = None) -> None:
        self.by_node: dict[str, NodeQueue] = {}
        self.stranded: list[Task] = []
        """Tasks whose node has left, to be bound anew."""
        self._shed = shed
        self._room = room
        self._epoch = -1
        self._where: dict[str, tuple[NodeQueue, Queued]] = {}
        self._running: dict[str, tuple[NodeQueue, float]] = {}

    def refresh(self, fleet: Fleet, now_s: float) -> bool:
        """Take in nodes that came, went or drain; return whether any did."""
        fleet.refresh(now_s)
        if fleet.epoch == self._epoch:
            return False
        self._epoch = fleet.epoch
        taking = {node.info.name for node in fleet if not node.draining}
        for name in list(self.by_node):
            if name not in taking:
                self._strand(self.by_node.pop(name))
        for name in sorted(taking - set(self.by_node)):
            self.by_node[name] = NodeQueue(name)
        return True

    def join(self, node: str, task: Task, offer: Offer, work_s: float, first: bool = False) -> None:
        """Bind a task to a node."""
        entry = Queued(task, offer, work_s)
        queue = self.by_node[node]
        queue.join(entry, first)
        self._where[task.id] = queue, entry

    def withdraw(self, task: Task) -> None:
        """Forget a task that waits."""
        if task.id in self._where:
            queue, entry = self._where.pop(task.id)
            queue.leave(entry)
        else:
            self.stranded.remove(task)

    def ended(self, task: Task, now_s: float | None) -> tuple[str, float]:
        """Note that a started task is done, or with None that it was lost.

        Returns:
            Its node, and when it was started.
        """
        queue, started_s = self._running.pop(task.id)
        queue.end(task.id, now_s)
        return queue.name, started_s

    def relabel(self, node: str, remake: Callable[[Task], tuple[Offer, float]]) -> None:
        """Ask anew what those in a node's line are to be made as."""
        queue = self.by_node[node]
        queue.queued_s = 0.0
        for entry in queue.line:
            entry.offer, entry.work_s = remake(entry.task)
            queue.queued_s += entry.work_s

    def strand(self, node: str) -> None:
        """Let what waits for a node be bound anew."""
        queue = self.by_node[node]
        self._strand(queue)
        queue.line.clear()
        queue.queued_s = 0.0

    def dispatch(self, fleet: Fleet, now_s: float) -> Iterator[Start | GiveUp]:
        """Yield what nodes with room begin, and what is dropped before them."""
        for queue in tuple(self.by_node.values()):
            if queue.line:
                yield from self._serve(queue, fleet, now_s)

    def _serve(self, queue: NodeQueue, fleet: Fleet, now_s: float) -> Iterator[Start | GiveUp]:
        held: list[Queued] = []
        node = fleet[queue.name]
        while len(queue.line) > len(held) and self._has_room(queue, fleet):
            entry = queue.line[len(held)]
            task = entry.task
            if task.held:
                held.append(entry)
                continue
            queue.leave(entry)
            del self._where[task.id]
            finish_s = entry.offer.fetch_s + node.idle_s(entry.offer.row)
            left_s = task.deadline_at_s - now_s
            if self._shed and finish_s > left_s + _FIT:
                late = f"{left_s:.3g} s are left and {finish_s:.3g} s needed"
                yield GiveUp(task, DeadlineError(late))
                continue
            queue.start(entry, now_s)
            self._running[task.id] = queue, now_s
            yield Start(task, Decision(entry.offer, queue.name, finish_s))

    def _has_room(self, queue: NodeQueue, fleet: Fleet) -> bool:
        return fleet.has_room(queue.name) and (self._room is None or self._room(queue))

    def _strand(self, queue: NodeQueue) -> None:
        for entry in queue.line:
            del self._where[entry.task.id]
            self.stranded.append(entry.task)

    def shortest(self, names: list[str], now_s: float) -> str:
        """Return of some nodes the one whose queue is done first; among equals the first."""
        return min(names, key=lambda name: self.by_node[name].wait_s(now_s), default="")
