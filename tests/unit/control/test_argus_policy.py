"""What tasks do to each other in Argus's own policy."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from argus.control.backlog import NodeBacklog
from argus.control.line import WaitingLine
from argus.control.policies.argus import ArgusPolicy
from argus.control.policies.argus_options import ArgusOptions
from argus.control.policy import GiveUp, Start, Task
from argus.control.router import Decision
from argus.errors import OverloadedError
from argus.types import StepCosts, VariantCosts
from tests.unit.control.build import COSTS, node
from tests.unit.control.deciding import BOTH, LADDER, fleet_of, offer, start_all, task

ALONE_S = node(slots=1).idle_s(LADDER[0].row)
"""6.25 s at the reference, 3.25 at half the steps, 1.45 at a fifth."""
BASE, SMALL = LADDER[:3], LADDER[3:]


def serial(name: str = "n") -> NodeBacklog:
    return node(name, slots=1, max_lanes=2)


def test_a_task_leaves_those_behind_the_time_they_need_at_their_fastest() -> None:
    """One node; alone the first would take all of its 6.25 s, and the second would be late."""
    fleet, policy = fleet_of([serial()], limit=1), ArgusPolicy()
    first, second = task(BASE, 7.0), task(BASE, 7.5)
    for new in (first, second):
        policy.admit(new, fleet, 0.0)
    (start,) = start_all(policy, fleet)
    assert (start.task, start.decision.offer.level.name) == (first, "base-25")
    fleet["n"].remove(first.id)
    (start,) = start_all(policy, fleet, 3.25)
    assert (start.task, start.decision.offer.level.name) == (second, "base-25")


def test_without_the_check_of_those_behind_the_second_has_less() -> None:
    policy = ArgusPolicy(ArgusOptions(slack=False))
    fleet = fleet_of([serial()], limit=1)
    for new in (task(BASE, 7.0), task(BASE, 7.9)):
        policy.admit(new, fleet, 0.0)
    (start,) = start_all(policy, fleet)
    assert start.decision.offer.level.name == "base-50"
    fleet["n"].remove(start.task.id)
    (start,) = start_all(policy, fleet, ALONE_S)
    assert start.decision.offer.level.name == "base-10"


def test_the_one_that_is_worth_least_makes_way_when_not_all_can_be_on_time() -> None:
    fleet, policy = fleet_of([serial()], limit=1), ArgusPolicy()
    poor = [replace(o, quality=o.quality * 0.5) for o in BASE]
    tasks = [task(BASE, 3.0), task(poor, 3.1), task(BASE, 3.2)]
    for new in tasks[:2]:
        policy.admit(new, fleet, 0.0)
    policy.admit(tasks[2], fleet, 0.0)
    given_up = next(iter(policy.dispatch(fleet, 0.0)))
    assert isinstance(given_up, GiveUp)
    assert given_up.task is tasks[1]
    assert isinstance(given_up.error, OverloadedError)
    (start,) = start_all(policy, fleet)
    assert start.task is tasks[0]
    with pytest.raises(OverloadedError):
        policy.admit(task(poor, 3.3), fleet, 0.0)


def test_a_task_that_was_lost_is_never_let_go_for_another() -> None:
    fleet, policy = fleet_of([serial()], limit=1), ArgusPolicy()
    poor = [replace(o, quality=o.quality * 0.5) for o in BASE]
    lost = task(poor, 3.0)
    policy.admit(lost, fleet, 0.0)
    start_all(policy, fleet)
    fleet["n"].remove(lost.id)
    lost.lost = True
    policy.put_back(lost)
    policy.admit(task(BASE, 3.1), fleet, 0.0)
    with pytest.raises(OverloadedError):
        policy.admit(task(BASE, 3.2), fleet, 0.0)
    (start,) = start_all(policy, fleet)
    assert start.task is lost


def test_what_others_are_worth_is_expected_with_a_price_only_when_there_is_load() -> None:
    """A steady stream far below capacity keeps the price at nothing, one above it does not."""
    prices = {}
    for gap_s in (8.0, 2.0):
        fleet, policy = fleet_of([serial()], limit=1), ArgusPolicy()
        now_s, free_s, plan_s = 0.0, 0.0, 0.0
        running: Task | None = None
        for _ in range(200):
            now_s += gap_s
            if plan_s <= now_s:
                plan_s = policy.plan(fleet, now_s)
            try:
                policy.admit(task(BASE, 20.0, now_s), fleet, now_s)
            except OverloadedError:
                continue
            if running is not None and free_s <= now_s:
                fleet["n"].remove(running.id)
                policy.ended(running, free_s)
                running = None
            for start in start_all(policy, fleet, now_s):
                running = start.task
                free_s = now_s + start.decision.predicted_finish_s
        prices[gap_s] = policy.price
    assert prices[8.0] < 0.01
    assert prices[2.0] > 0.02


def test_margins_are_learned_from_rows_that_took_longer() -> None:
    fleet, policy = fleet_of([serial()], limit=1), ArgusPolicy()
    tight_s = 1.15 * ALONE_S
    now_s = 0.0
    for _ in range(64):
        new = task(BASE, 100.0, now_s)
        policy.admit(new, fleet, now_s)
        start_all(policy, fleet, now_s)
        now_s += 1.2 * ALONE_S
        fleet["n"].remove(new.id)
        policy.ended(new, now_s)
    assert policy.figures(now_s).margin == pytest.approx(1.2)
    policy.admit(task(BASE, tight_s, now_s), fleet, now_s)
    (start,) = start_all(policy, fleet, now_s)
    assert start.decision.offer.level.name == "base-25"


def test_a_task_may_be_held_and_is_then_passed_over() -> None:
    fleet, policy = fleet_of([serial()], limit=1), ArgusPolicy()
    held, other = task(BASE, None), task(BASE, None)
    for new in (held, other):
        policy.admit(new, fleet, 0.0)
    held.held = True
    (start,) = start_all(policy, fleet)
    assert start.task is other
    held.held = False
    fleet["n"].remove(other.id)
    (start,) = start_all(policy, fleet)
    assert start.task is held


def test_a_task_that_does_not_wait_cannot_be_withdrawn() -> None:
    with pytest.raises(KeyError):
        ArgusPolicy().withdraw(task(BASE, None))


@pytest.mark.parametrize("seed", range(10))
def test_the_line_and_its_columns_stay_in_the_order_of_urgency(seed: int) -> None:
    rng = random.Random(seed)
    fleet, policy = fleet_of([serial()], limit=0), ArgusPolicy(ArgusOptions(shed=False))
    line: WaitingLine = policy._line  # the columns are no part of the policy's own interface
    waiting: list[Task] = []
    for _ in range(300):
        if waiting and rng.random() < 0.45:
            policy.withdraw(waiting.pop(rng.randrange(len(waiting))))
        else:
            offers = BASE if rng.random() < 0.7 else (offer("other", 0.9, rng.randint(2, 40)),)
            new = task(offers, rng.choice([None, 10.0, rng.uniform(8.0, 50.0)]), rng.uniform(0, 5))
            policy.admit(new, fleet, new.arrived_s)
            waiting.append(new)
        entries = list(line)
        assert {entry.task.id for entry in entries} == {t.id for t in waiting}
        assert [e.key for e in entries] == sorted(e.key for e in entries)
        assert line.least_s.tolist() == [e.choices.least_s for e in entries]
        due = [e.task.deadline_at_s - e.choices.fastest_s for e in entries]
        assert line.latest_s.tolist() == due
        assert math.isclose(line.least_sum_s, sum(e.choices.least_s for e in entries))


def test_a_node_that_comes_or_goes_changes_what_waiting_tasks_may_become() -> None:
    fleet, policy = fleet_of([node("a", costs={"small": COSTS})], limit=1), ArgusPolicy()
    both = (offer("base-50", 1.0), offer("small-50", 0.8, 50, "small"))
    blocker, waits = task(both, 60.0), task(both, 60.0)
    for new in (blocker, waits):
        policy.admit(new, fleet, 0.0)
    starts = start_all(policy, fleet)
    assert [s.decision.offer.level.name for s in starts] == ["small-50"]
    fleet.add(serial("b"), 1)
    starts = start_all(policy, fleet)
    assert [(s.task, s.decision.node) for s in starts] == [(waits, "b")]
    assert all(isinstance(s, Start) for s in starts)


def test_with_level_and_node_settled_on_arrival_a_task_keeps_them() -> None:
    """Late binding gives the one that waits the whole run that turned out to be possible."""
    levels = {}
    for late in (True, False):
        policy = ArgusPolicy(ArgusOptions(late_binding=late))
        fleet = fleet_of([serial()], limit=1)
        first, second = task(BASE, 100.0), task(BASE, ALONE_S + 3.5)
        policy.admit(first, fleet, 0.0)
        start_all(policy, fleet)
        policy.admit(second, fleet, 0.0)
        fleet["n"].remove(first.id)  # it was cancelled
        (start,) = start_all(policy, fleet, 1.0)
        levels[late] = start.decision.offer.level.name
    assert levels == {True: "base-50", False: "base-25"}


def test_what_is_settled_on_arrival_is_spread_over_full_nodes() -> None:
    policy = ArgusPolicy(ArgusOptions(late_binding=False))
    fleet = fleet_of([serial("a"), serial("b")], limit=1)
    nodes = []
    for _ in range(6):
        new = task(BASE[:1], 100.0)
        nodes.append(policy.admit(new, fleet, 0.0).node)
        start_all(policy, fleet)
    assert nodes == ["a", "b"] * 3


def test_without_feedback_the_price_is_that_of_the_plan_whatever_waits() -> None:
    prices = set()
    for waiting in (0, 10):
        fleet, policy = fleet_of([serial()], limit=1), ArgusPolicy(ArgusOptions(feedback=False))
        for i in range(40):
            new = task(BASE, 1000.0, float(2 * i))
            policy.admit(new, fleet, new.arrived_s)
            policy.withdraw(new)
        policy.plan(fleet, 80.0)
        for _ in range(waiting + 1):
            policy.admit(task(BASE, 1000.0, 80.0), fleet, 80.0)
        prices.add(policy.price)
    (price,) = prices
    assert price > 0.0


@pytest.mark.parametrize("tenants", [("", ""), ("a", "b")])
def test_nobody_is_let_go_for_a_task_that_is_refused_anyway(tenants: tuple[str, str]) -> None:
    """Room for the third could be made only by letting both others go, and one is worth more."""
    fleet, policy = fleet_of([serial()], limit=1), ArgusPolicy()
    running = task(BASE, 2.0)
    policy.admit(running, fleet, 0.0)
    start_all(policy, fleet)
    poor = [replace(o, quality=o.quality * 0.2) for o in BASE]
    waiting = [task(poor, 4.5), task(BASE, 4.4)]
    for new, tenant in zip(waiting, tenants, strict=True):
        new.tenant = tenant
        policy.admit(new, fleet, 0.0)
    # Virtual time has gone by since they began to wait.
    policy._turns._fair._virtual_s = 18.75
    turns_s = [policy._turns.reach_s(tenant) for tenant in tenants]
    middling = task(LADDER[1:2], 4.75)
    middling.tenant = tenants[0]
    with pytest.raises(OverloadedError):
        policy.admit(middling, fleet, 0.0)
    assert list(policy.dispatch(fleet, 0.0)) == []
    assert [policy._turns.reach_s(tenant) for tenant in tenants] == pytest.approx(turns_s)
    for each in waiting:
        policy.withdraw(each)


def test_who_waits_keeps_turn_and_settled_node_when_nodes_come() -> None:
    fleet, policy = fleet_of([serial()], limit=1), ArgusPolicy(ArgusOptions(late_binding=False))
    tasks = [task(BASE, 10.0), task(BASE, 100.0)]
    tasks[1].tenant = "b"
    for each in tasks:
        policy.admit(each, fleet, 0.0)
        start_all(policy, fleet)
    policy._turns._fair._virtual_s = 18.75
    turn_s, bound = policy._turns.reach_s("b"), policy._waiting[tasks[1]].bound
    assert bound is not None
    fleet.add(serial("new"), 1)
    assert start_all(policy, fleet) == []
    assert policy._waiting[tasks[1]].bound == bound
    assert policy._turns.reach_s("b") == turn_s
    fleet.remove(bound.node)
    (start,) = start_all(policy, fleet)
    assert start.decision.node == "new"


def test_what_was_settled_is_not_begun_on_a_node_that_serves_it_no_more() -> None:
    both = node("n", slots=1, max_lanes=2, costs=BOTH)
    fleet, policy = fleet_of([both], limit=1), ArgusPolicy(ArgusOptions(late_binding=False))
    for each in (task(BASE[:1], 10.0), task(BASE[:1], 100.0)):
        policy.admit(each, fleet, 0.0)
        start_all(policy, fleet)
    both.serving = frozenset({"small"})
    assert start_all(policy, fleet) == []
    (row_id,) = both.row_ids
    both.remove(row_id)
    assert start_all(policy, fleet) == []


def test_a_slot_that_is_free_is_used_though_a_better_node_takes_nobody_behind_its_slots() -> None:
    """The first waits for the slot of `y`; those behind it that would rather have `y` get `z`."""
    slower = VariantCosts(StepCosts((1, 2), (0.1, 0.12)), text_encode_s=0.05, decode_s=0.2)
    y = node("y", slots=1, max_lanes=2, costs=BOTH)
    z = node("z", slots=1, max_lanes=2, costs={"small": slower})
    y.add("running", SMALL[0].row, 1000.0)
    fleet, policy = fleet_of([y, z], limit=3), ArgusPolicy()
    urgent = task(BASE[:1], 8.0)
    urgent.decision = Decision(BASE[0], "y", 8.0)  # accepted before, when it looked possible
    for each in (urgent, *(task(SMALL, 1000.0) for _ in range(6))):
        policy.admit(each, fleet, 0.0)
    assert "z" in [start.decision.node for start in start_all(policy, fleet)]
    assert not fleet.has_slot("z")
    assert len(y) == 1


def test_what_nodes_have_to_do_is_reckoned_from_when_it_changed() -> None:
    fleet, policy = fleet_of([serial()], limit=1), ArgusPolicy()
    only = task(BASE, 20.0)
    policy.admit(only, fleet, 0.0)
    (start,) = start_all(policy, fleet)
    assert list(policy.dispatch(fleet, 0.0)) == []
    work_s = fleet["n"].device_s(start.decision.offer.row)
    (group,) = fleet.refresh(1.0)
    assert group.work_s(1.0) == pytest.approx(work_s - 1.0)


def test_a_task_that_was_let_go_may_end_otherwise_before_that_is_carried_out() -> None:
    fleet, policy = fleet_of([serial()], limit=1), ArgusPolicy()
    poor = [replace(o, quality=o.quality * 0.5) for o in BASE]
    tasks = [task(BASE, 3.0), task(poor, 3.1), task(BASE, 3.2)]
    for new in tasks:
        policy.admit(new, fleet, 0.0)
    policy.withdraw(tasks[1])
    assert [type(act) for act in policy.dispatch(fleet_of([], 1), 0.0)] == []
