"""Whom a round through the line offers the next free node."""

from __future__ import annotations

from argus.control.choices import choices_of
from argus.control.fleet import Fleet
from argus.control.line import Waiting, WaitingLine, urgency
from argus.control.margins import Margins
from argus.control.moment import Moment
from argus.control.policy import Task
from argus.control.rounds import Round
from argus.control.slack import Slack
from argus.control.turns import Turns
from tests.unit.control.build import COSTS, SMALL_COSTS, node
from tests.unit.control.deciding import LADDER, fleet_of, task

BASE, SMALL = LADDER[:1], LADDER[3:]


class Scene:
    """Tasks that wait for a fleet."""

    def __init__(self, fleet: Fleet, *tasks: Task) -> None:
        self.fleet, self.line, self.turns = fleet, WaitingLine(), Turns()
        self.slack = Slack(self.line, Margins(), 0.5)
        self.entries = {each.id: self.add(each) for each in tasks}

    def add(self, each: Task) -> Waiting:
        self.fleet.refresh(0.0)
        choices = choices_of(each.offers, [1.0 for _ in each.offers], self.fleet, bound=True)
        assert choices is not None
        entry = Waiting(each, choices, urgency(each))
        self.line.add(entry)
        self.turns.add(entry)
        return entry

    def round(self, after: Round | None = None) -> Round:
        return Round(self.line, self.turns, self.slack, after)

    def take_out(self, entry: Waiting) -> None:
        self.line.remove(entry)
        self.turns.set_aside(entry)
        self.turns.settle(entry.task.tenant)

    @property
    def moment(self) -> Moment:
        return Moment(self.fleet, 0.0)


def all_of(scene: Scene, look: Round, for_slot: str = "") -> list[str]:
    """Pass over everybody whom a round looks at, one for a slot, and return their ids."""
    found = []
    while (next_ := look.next(scene.moment)) is not None:
        entry, _ = next_
        found.append(entry.task.id)
        look.pass_over(entry, for_slot=entry.task.id == for_slot)
    return found


def test_everybody_is_looked_at_once_the_most_urgent_first() -> None:
    late, soon, held = task(BASE, 30.0), task(BASE, 20.0), task(BASE, 10.0)
    held.held = True
    scene = Scene(fleet_of([node()]), late, soon, held)
    look = scene.round()
    assert all_of(scene, look) == [soon.id, late.id]
    assert look.is_over
    assert not look.waits_for_slot


def test_nobody_is_looked_at_without_room() -> None:
    full = node(slots=1)
    full.add("row", BASE[0].row)
    scene = Scene(fleet_of([full], limit=1), task(BASE, 20.0))
    assert scene.round().next(scene.moment) is None


def test_those_behind_who_waits_for_a_slot_get_slots_only() -> None:
    """Two nodes serve different variants; only one has a slot, both have room."""
    busy, free = node("busy", slots=1), node("free", slots=1, costs={"small": SMALL_COSTS})
    busy.add("row", BASE[0].row)
    first, second, third = task(BASE, 10.0), task(BASE, 20.0), task(SMALL, 30.0)
    scene = Scene(fleet_of([busy, free], limit=2), first, second, third)
    look = scene.round()
    assert look.may_have("busy", scene.fleet)
    # Once the first waits for a slot, only the third could be given the one that there is.
    assert all_of(scene, look, for_slot=first.id) == [first.id, third.id]
    assert look.waits_for_slot
    assert not look.may_have("busy", scene.fleet)
    assert look.may_have("free", scene.fleet)


def test_nodes_of_other_variants_take_rows_behind_their_slots_as_before() -> None:
    busy, other = node("busy", slots=1), node("other", slots=1, costs={"small": SMALL_COSTS})
    busy.add("row", BASE[0].row)
    other.add("row", SMALL[0].row)
    first, second, third = task(BASE, 10.0), task(BASE, 20.0), task(SMALL, 30.0)
    scene = Scene(fleet_of([busy, other], limit=2), first, second, third)
    look = scene.round()
    assert all_of(scene, look, for_slot=first.id) == [first.id, third.id]
    assert look.may_have("other", scene.fleet)
    assert not look.may_have("busy", scene.fleet)


def test_without_a_node_that_takes_a_row_the_round_ends_at_once() -> None:
    busy = node("busy", slots=1)
    busy.add("row", BASE[0].row)
    first, second = task(BASE, 10.0), task(BASE, 20.0)
    scene = Scene(fleet_of([busy], limit=2), first, second)
    look = scene.round()
    assert all_of(scene, look, for_slot=first.id) == [first.id]
    assert not look.is_over


def test_a_second_round_is_for_those_that_wait_for_a_slot_alone() -> None:
    first, second = task(BASE, 10.0), task(BASE, 20.0)
    scene = Scene(fleet_of([node(slots=2)]), first, second)
    look = scene.round()
    assert all_of(scene, look, for_slot=second.id) == [first.id, second.id]
    again = scene.round(after=look)
    assert (look.idle, again.idle) == (False, True)
    assert all_of(scene, again) == [second.id]


def test_the_tenant_whose_turn_it_is_goes_first_and_all_are_looked_at() -> None:
    mine, other, more = task(BASE, 55.0), task(BASE, 50.0), task(BASE, 45.0)
    mine.tenant, other.tenant, more.tenant = "a", "b", "b"
    scene = Scene(fleet_of([node(costs={"base": COSTS})]), mine, other, more)
    scene.turns.began(scene.entries[more.id], 5.0)
    look = scene.round()
    found, spot = look.next(scene.moment) or (None, None)
    assert found is scene.entries[mine.id]
    assert spot == (2, 2)
    assert all_of(scene, look) == [mine.id, more.id, other.id]
    assert look.is_over


def test_those_passed_over_are_the_head_of_the_line_when_other_tenants_are_gone() -> None:
    first, theirs, last = task(BASE, 45.0), task(BASE, 50.0), task(BASE, 55.0)
    first.tenant, theirs.tenant, last.tenant = "a", "b", "a"
    scene = Scene(fleet_of([node()]), first, theirs, last)
    look = scene.round()
    entry, _ = look.next(scene.moment) or (None, None)
    assert entry is scene.entries[first.id]
    look.pass_over(entry)
    scene.take_out(scene.entries[theirs.id])
    entry, spot = look.next(scene.moment) or (None, None)
    assert entry is scene.entries[last.id]
    assert spot == (1, 0)
