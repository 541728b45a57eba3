"""What is tried, what waits and what is given up when not all can be on time."""

from __future__ import annotations

import contextlib
import random
from dataclasses import dataclass

import pytest

from argus.control.policies.argus import ArgusPolicy
from argus.control.policies.argus_options import ArgusOptions
from argus.control.policy import GiveUp, Start, Task
from argus.errors import ArgusError, DeadlineError, OverloadedError
from tests.unit.control.build import SMALL_COSTS, node, row
from tests.unit.control.deciding import LADDER, fleet_of, offer, start_all, task

ONE = LADDER[2:3]
ROW = ONE[0].row
STEPS = 10


@dataclass
class Ends:
    """How the accepted tasks of a run ended, in its second half."""

    on_time: int = 0
    late: int = 0
    given_up: int = 0


class SlowNode:
    """A node that takes longer than it says and does not say so, under three times its load.

    Its rows step side by side, as slowly as in a full batch; steps are reported, and what is late
    is left off.
    """

    def __init__(self, slots: int, lookahead: int, slow: float) -> None:
        self.node = node(slots=slots, max_lanes=2 * slots)
        self.fleet = fleet_of([self.node], limit=slots + lookahead)
        self.policy = ArgusPolicy()
        self.slots = slots
        self.row_s = self.node.busy_s(ROW)
        self.step_s = slow * self.row_s / STEPS
        self.steps: dict[str, tuple[Task, float, int]] = {}
        self.queue: list[Task] = []
        self.ends = Ends()

    def run(self, deadline_rows: float, rows: int = 200) -> Ends:
        rng, cost_s, now_s, next_s = random.Random(1), self.node.device_s(ROW), 0.0, 0.0
        until_s = rows * self.slots * cost_s
        while now_s < until_s:
            if now_s < until_s / 2:
                self.ends = Ends()
            step_s = min((at_s for _, at_s, _ in self.steps.values()), default=next_s)
            now_s = min(next_s, step_s)
            if now_s == next_s:
                next_s += rng.expovariate(3.0 / cost_s)
                self._come(task(ONE, deadline_rows * self.row_s, now_s), now_s)
            else:
                self._step(now_s)
            for act in self.policy.dispatch(self.fleet, now_s):
                if isinstance(act, Start):
                    self.node.add(act.task.id, ROW, act.task.deadline_at_s)
                    self.queue.append(act.task)
                else:
                    self.ends.given_up += 1
                self._fill(now_s)
        return self.ends

    def _come(self, come: Task, now_s: float) -> None:
        with contextlib.suppress(ArgusError):
            self.policy.admit(come, self.fleet, now_s)

    def _step(self, now_s: float) -> None:
        row_id = min(self.steps, key=lambda one: self.steps[one][1])
        its, _, done = self.steps.pop(row_id)
        self.node.progress(row_id, done + 1)
        if done + 1 == STEPS or now_s > its.deadline_at_s:
            self._end(its, now_s, now_s <= its.deadline_at_s)
        else:
            self.steps[row_id] = its, now_s + self.step_s, done + 1
        self._fill(now_s)

    def _end(self, its: Task, now_s: float, made: bool) -> None:
        self.policy.ended(its, now_s, made)
        self.node.remove(its.id)
        self.ends.on_time += made
        self.ends.late += not made

    def _fill(self, now_s: float) -> None:
        while self.queue and len(self.steps) < self.slots:
            self.queue.sort(key=lambda its: its.deadline_at_s)
            its = self.queue.pop(0)
            if now_s > its.deadline_at_s:
                self._end(its, now_s, made=False)
            else:
                self.node.start(its.id)
                self.steps[its.id] = its, now_s + self.step_s, 0


@pytest.mark.parametrize("lookahead", [0, 2])
@pytest.mark.parametrize(("slots", "least"), [(1, 0.85), (4, 0.95)])
def test_a_slow_node_makes_what_is_on_time(slots: int, least: float, lookahead: int) -> None:
    for slow, deadline_rows in ((1.0, 3.0), (1.3, 3.0), (1.5, 4.0)):
        ends = SlowNode(slots, lookahead, slow).run(deadline_rows)
        # As many rows as it makes in half of the time.
        most = 100 * slots / slow
        assert ends.on_time > least * most, (slow, ends)
        assert ends.late < 0.1 * ends.on_time, (slow, ends)


def learned(slow: float = 1.5) -> ArgusPolicy:
    """Return a policy that has seen rows take longer than predicted."""
    policy, only = ArgusPolicy(), node(slots=1)
    fleet = fleet_of([only])
    for n in range(64):
        policy.admit(task(ONE, None, 100.0 * n), fleet, 100.0 * n)
        (start,) = start_all(policy, fleet, 100.0 * n)
        policy.ended(start.task, 100.0 * n + slow * only.idle_s(ROW))
        only.remove(start.task.id)
    return policy


def test_what_is_too_late_is_told_though_no_node_has_room() -> None:
    policy, only = ArgusPolicy(), node(slots=1)
    fleet = fleet_of([only], limit=1)
    policy.admit(task(LADDER[:1], None), fleet, 0.0)
    start_all(policy, fleet)
    policy.admit(task(LADDER[:3], 30.0), fleet, 0.0)
    assert list(policy.dispatch(fleet, 28.0)) == []
    (act,) = policy.dispatch(fleet, 29.5)
    assert isinstance(act, GiveUp)
    assert isinstance(act.error, DeadlineError)


def test_a_task_that_a_node_lost_is_not_given_up_for_others() -> None:
    policy, only = learned(), node(slots=1)
    fleet, now_s = fleet_of([only]), 6400.0
    lost = task(ONE, 10.0, now_s)
    policy.admit(lost, fleet, now_s)
    (start,) = policy.dispatch(fleet, now_s)
    lost.lost = True
    policy.put_back(lost)
    policy.admit(task(ONE, 60.0, now_s), fleet, now_s)
    late_s = lost.deadline_at_s - 1.2 * only.idle_s(ROW)
    first = next(policy.dispatch(fleet, late_s))
    assert isinstance(first, Start)
    assert first.task is lost


def test_a_task_that_is_held_competes_for_nothing() -> None:
    for held in (True, False):
        policy, only = learned(), node(slots=1)
        fleet, now_s = fleet_of([only], limit=1), 6400.0
        urgent, other = task(ONE, 8.0, now_s), task(ONE, 60.0, now_s)
        only.add("full", ROW, 0.0)
        for each in (urgent, other):
            policy.admit(each, fleet, now_s)
        other.held = held
        only.remove("full")
        late_s = urgent.deadline_at_s - 1.2 * only.idle_s(ROW)
        acts = {act.task.id: type(act) for act in policy.dispatch(fleet, late_s)}
        assert acts[urgent.id] is (Start if held else GiveUp)


def test_nobody_is_accepted_only_to_be_given_up_at_once() -> None:
    policy, only = learned(), node(slots=1)
    fleet, now_s = fleet_of([only], limit=1), 6400.0
    only.add("full", ROW, 0.0)
    policy.admit(task(ONE, 60.0, now_s), fleet, now_s)
    with pytest.raises(OverloadedError, match="are left and at least"):
        policy.admit(task(ONE, 1.2 * only.idle_s(ROW), now_s), fleet, now_s)


def test_a_node_that_others_do_not_want_is_nobodys() -> None:
    policy, now_s = learned(1.3), 6400.0
    small = node("x", slots=1, costs={"small": SMALL_COSTS})
    fleet = fleet_of([small, node("y", slots=1)], limit=1)
    small.add("full", row(50, variant="small"), 0.0)
    policy.admit(task(LADDER[3:], 60.0, now_s), fleet, now_s)
    policy.admit(task(ONE, 1.2 * fleet["y"].idle_s(ROW), now_s), fleet, now_s)
    (start,) = start_all(policy, fleet, now_s)
    assert start.decision.node == "y"


def test_a_slot_that_is_about_to_be_free_is_not_taken_by_less_urgent_tasks() -> None:
    policy, only = ArgusPolicy(), node(slots=1)
    fleet = fleet_of([only], limit=3)
    for _ in range(64):  # one in a hundred takes half as long again
        policy._foresight.margins.note("test", 1.0, 1.0)
    policy._foresight.margins.excesses.restore({"test": [1.0] * 500 + [1.5] * 10})
    only.add("full", ROW, 0.0)
    alone_s = only.idle_s(ROW)
    urgent = task(ONE, 2.2 * alone_s)
    policy.admit(urgent, fleet, 0.0)
    assert start_all(policy, fleet) == []
    policy.admit(task(ONE, None), fleet, 0.0)
    assert start_all(policy, fleet) == []
    only.remove("full")
    assert start_all(policy, fleet, alone_s)[0].task is urgent


def test_a_free_slot_is_not_kept_for_nobody() -> None:
    """Each of three would be late with the others beside it, and one alone would not."""
    policy, only = ArgusPolicy(), node(slots=4)
    policy._foresight.restore(
        {"margins": {"excesses": {}, "ratios": {}}, "filling": {"test": [1.0] * 64}}
    )
    fleet = fleet_of([only], limit=4)
    for n in range(4):
        only.add(f"full{n}", ROW, 0.0)
    remaining_s = 1.1 * (only.idle_s(ROW) + 0.3)
    assert only.busy_s(ROW) > remaining_s
    for _ in range(3):
        policy.admit(task(ONE, 60.0), fleet, 0.0)
    for n in range(4):
        only.remove(f"full{n}")
    now_s = 60.0 - remaining_s
    assert start_all(policy, fleet, now_s)


def test_who_waited_for_nodes_that_are_gone_teaches_nothing() -> None:
    policy, only = ArgusPolicy(), node(slots=1)
    fleet = fleet_of([only], limit=1)
    only.add("full", ROW, 0.0)
    for n in range(20):
        policy.admit(task(ONE, 40.0 + n), fleet, 0.0)
    fleet.remove("n1")
    assert len(list(policy.dispatch(fleet, 100.0))) == 20
    assert policy.figures(100.0).reserve == 0.0


def test_a_node_that_just_joined_counts() -> None:
    slow = node("slow", slots=1)
    slow.slowness = 6.0
    policy, fleet = ArgusPolicy(), fleet_of([slow], limit=1)
    slow.add("full", ROW, 0.0)
    waits = task(ONE, 30.0)
    policy.admit(waits, fleet, 0.0)
    fleet.add(node("fast", slots=1), 1)
    (start,) = start_all(policy, fleet, 22.5)
    assert start.task is waits


def test_what_is_kept_free_turns_away_only_who_comes() -> None:
    policy, only = ArgusPolicy(), node(slots=1)
    fleet = fleet_of([only], limit=1)
    only.add("full", ROW, 0.0)
    cost_s = only.device_s(ROW)
    poor, rich = offer("base-10", 0.5, 10), offer("base-10", 0.9, 10)
    first = task([poor], 3.3 * cost_s)
    policy.admit(first, fleet, 0.0)
    for _ in range(30):
        policy._reserve.note(True, 0.0)
    with pytest.raises(OverloadedError):
        policy.admit(task([rich], 2.8 * cost_s), fleet, 0.0)
    assert list(policy.dispatch(fleet, 0.0)) == []
    policy._reserve._share = 0.0
    policy.admit(task([rich], 2.8 * cost_s), fleet, 0.0)
    assert list(policy.dispatch(fleet, 0.0)) == []


def test_a_free_slot_is_found_though_others_have_less_to_do() -> None:
    nodes = [node(name, slots=4) for name in "abcz"]
    for each in nodes[:3]:
        for n in range(4):
            each.add(f"{each.info.name}{n}", ROW, 100.0)
            each.progress(f"{each.info.name}{n}", 6)
    nodes[3].add("long", LADDER[0].row, 100.0)
    assert nodes[3].work_s() > nodes[0].work_s()
    policy, fleet = ArgusPolicy(), fleet_of(nodes, limit=6)
    remaining_s = 1.1 * nodes[3].finish_s(ROW, 10.0)
    assert nodes[0].finish_s(ROW, 10.0) > remaining_s
    policy.admit(task(ONE, remaining_s), fleet, 0.0)
    (start,) = start_all(policy, fleet)
    assert start.decision.node == "z"


def test_without_late_binding_what_has_no_chance_is_told_so() -> None:
    policy = ArgusPolicy(ArgusOptions(late_binding=False))
    fleet = fleet_of([node(slots=1)], limit=1)
    policy.admit(task(ONE, None), fleet, 0.0)
    with pytest.raises(DeadlineError):
        policy.admit(task(ONE, 0.1), fleet, 0.0)


def test_rows_that_end_late_teach_the_reserve() -> None:
    policy, only = ArgusPolicy(), node(slots=1)
    fleet = fleet_of([only], limit=1)
    alone_s = only.idle_s(ROW)
    for late_s in (-0.1, 0.1):
        come = task(ONE, 1.5 * alone_s)
        policy.admit(come, fleet, 0.0)
        start_all(policy, fleet)
        assert policy.figures(0.0).reserve == 0.0
        ends_s = come.deadline_at_s + late_s
        policy.ended(come, ends_s)
        only.remove(come.id)
        assert (policy.figures(ends_s).reserve > 0.0) is (late_s > 0.0)
