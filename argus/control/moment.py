"""The fleet at one moment, and the node that would be done first with a row."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from argus.control.backlog import due_s
from argus.control.fleet import Fleet
from argus.control.offers import Offer
from argus.control.policy import Task
from argus.control.router import Decision

Held = Mapping[str, float]
"""Device seconds of tasks that wait for one full node each, by its name."""
NOTHING_HELD: Held = MappingProxyType({})


class Moment:
    """The fleet as of now.

    Args:
        fleet: the nodes.
        now_s: the time.
        share: of the predicted work that nodes get done.

    Attributes:
        groups: equal nodes together.
        nodes: how many take rows, now or later.
        pace: predicted device seconds that they get done in a second together.
        has_room: whether some node takes another row.
    """

    __slots__ = (
        "_changes",
        "_running_s",
        "fleet",
        "groups",
        "has_room",
        "nodes",
        "now_s",
        "pace",
    )

    def __init__(self, fleet: Fleet, now_s: float, share: float = 1.0) -> None:
        self.fleet = fleet
        self.now_s = now_s
        self.groups = fleet.refresh(now_s)
        self.nodes = 0
        self.has_room = False
        for group in self.groups:
            self.nodes += group.taking
            self.has_room |= group.open > 0
        self.pace = self.nodes * share
        self._running_s: float | None = None
        self._changes = fleet.changes

    def is_of(self, fleet: Fleet, now_s: float) -> bool:
        """Whether nothing has changed since."""
        return self.fleet is fleet and self.now_s == now_s and self._changes == fleet.changes

    def taken(self, kept: Collection[str]) -> frozenset[str]:
        """Return the variants of which some node takes a row now.

        Args:
            kept: variants whose nodes take one in a free slot only, of whatever variant it is.
        """
        found: frozenset[str] = frozenset()
        for group in self.groups:
            serving = group.nodes[0].serving
            if group.with_slot or (group.open and serving.isdisjoint(kept)):
                found |= serving
        return found

    @property
    def running_s(self) -> float:
        """Device seconds that started rows still take."""
        if self._running_s is None:
            self._running_s = sum([group.work_s(self.now_s) for group in self.groups])
        return self._running_s


class Place(NamedTuple):
    """A decision, and whether its node has room for it."""

    decision: Decision
    has_room: bool


def soonest(
    offer: Offer,
    task: Task,
    moment: Moment,
    avoid: set[str],
    held: Held = NOTHING_HELD,
    *,
    in_slot: bool = False,
) -> Place | None:
    """Return the node that would be done first with an offer; None where none takes it.

    Nodes without room count too: the best one may be worth waiting for. Not if it must be
    `in_slot`: begun at once.
    """
    within = None if offer.near is None else offer.near.nodes[offer.skip]
    row_due_s = due_s(moment.now_s, task.deadline_at_s)
    best: tuple[float, str, bool] | None = None
    for group in moment.groups:
        if not group.nodes[0].holds(offer.row.variant):
            continue
        for node, end_s, has_room in group.candidates(moment.now_s, within, avoid, held):
            name = node.info.name
            if in_slot and not (has_room and len(node) < node.info.slots):
                continue
            if group.serial and len(node) <= 1:
                finish_s = max(0.0, end_s - moment.now_s) + node.idle_s(offer.row)
            elif not len(node):
                finish_s = node.idle_s(offer.row) + held.get(name, 0.0)
            else:
                finish_s = node.finish_s(offer.row, row_due_s) + held.get(name, 0.0)
            if best is None or (finish_s, name) < best[:2]:
                best = finish_s, name, has_room
    if best is None:
        return None
    return Place(Decision(offer, best[1], offer.fetch_s + best[0]), best[2])


def avoided(task: Task, offers: Sequence[Offer], moment: Moment) -> set[str]:
    """Return the nodes that failed a task, as long as there is another that takes it."""
    if not task.avoid:
        return task.avoid
    for node in moment.fleet:
        name = node.info.name
        if node.draining or name in task.avoid:
            continue
        if any(node.holds(offer.row.variant) and offer.may_run_on(name) for offer in offers):
            return task.avoid
    return set()
