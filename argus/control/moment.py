"""The fleet at one moment, and the node that would be done first with a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from argus.control.backlog import NodeBacklog, due_s
from argus.control.fleet import Fleet
from argus.control.groups import Group
from argus.control.offers import Offer
from argus.control.policy import Task
from argus.control.router import Decision

Held = Mapping[str, float]
"""Device seconds of tasks that wait for one full node each, by its name."""
NOTHING_HELD: Held = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Moment:
    """The fleet as of now.

    Attributes:
        fleet: the nodes.
        groups: equal ones together.
        now_s: the time.
        nodes: how many take rows, now or later.
        running_s: device seconds that started rows still take.
    """

    fleet: Fleet
    groups: tuple[Group, ...]
    now_s: float
    nodes: int
    running_s: float

    @property
    def has_room(self) -> bool:
        """Whether some node takes another row."""
        return any(group.open for group in self.groups)


@dataclass(frozen=True, slots=True)
class Place:
    """A decision, and whether its node has room for it."""

    decision: Decision
    has_room: bool


def moment_of(fleet: Fleet, now_s: float) -> Moment:
    """Return the fleet as of now."""
    groups = fleet.refresh(now_s)
    nodes, running_s = 0, 0.0
    for group in groups:
        nodes += group.taking
        running_s += group.work_s(now_s)
    return Moment(fleet, groups, now_s, nodes, running_s)


def soonest(
    offer: Offer, task: Task, moment: Moment, avoid: set[str], held: Held = NOTHING_HELD
) -> Place | None:
    """Return the node that would be done first with an offer; None where none takes it.

    Nodes without room count too: the best one may be worth waiting for.
    """
    within = None if offer.near is None else offer.near.nodes[offer.skip]
    row_due_s = due_s(moment.now_s, task.deadline_at_s)
    best: tuple[float, str, bool] | None = None
    for group in moment.groups:
        if not group.nodes[0].holds(offer.row.variant):
            continue
        for node, has_room in group.candidates(moment.now_s, within, avoid):
            name = node.info.name
            finish_s = _finish_s(node, offer, row_due_s) + held.get(name, 0.0)
            if best is None or (finish_s, name) < best[:2]:
                best = finish_s, name, has_room
    if best is None:
        return None
    return Place(Decision(offer, best[1], offer.fetch_s + best[0]), best[2])


def _finish_s(node: NodeBacklog, offer: Offer, row_due_s: float) -> float:
    return node.finish_s(offer.row, row_due_s) if len(node) else node.idle_s(offer.row)


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
