"""Queues of nodes that get less done than is predicted of them."""

from __future__ import annotations

import pytest

from argus.control.policies.argus import ArgusPolicy
from argus.control.policies.argus_options import ArgusOptions
from argus.control.throughput import Throughput
from argus.errors import DeadlineError, OverloadedError
from tests.unit.control.build import SMALL_COSTS, node, row
from tests.unit.control.deciding import LADDER, fleet_of, start_all, task


def saw(*ends: tuple[str, float, bool, float]) -> Throughput:
    seen = Throughput()
    for end in ends:
        seen.ended(*end)
    return seen


def share(*ends: tuple[str, float, bool, float]) -> float:
    """Return the share right after the last end."""
    return saw(*ends).share(ends[-1][-1])


def test_the_share_is_work_by_time_of_full_nodes() -> None:
    assert Throughput().share(0.0) == 1.0
    seen = saw(*(("a", 0.1, True, 0.2 * n) for n in range(100)))
    assert seen.share(20.0) == pytest.approx(0.5)


def test_rows_of_a_batch_end_together() -> None:
    ends = [("a", 0.1, True, 1.0 * (n // 4)) for n in range(400)]
    assert share(*ends) == pytest.approx(0.4, rel=0.05)


def test_what_jitters_a_little_is_as_predicted() -> None:
    assert share(*(("a", 0.97, True, 1.0 * n) for n in range(50))) == 1.0
    assert share(*(("a", 1.5, True, 1.0 * n) for n in range(50))) == 1.0


def test_time_in_which_a_node_may_have_had_nothing_to_do_does_not_count() -> None:
    ends = [("a", 0.1, n % 2 == 0, 0.5 * n) for n in range(100)]
    assert share(*ends) == 1.0
    seen = Throughput()
    for n in range(100):
        seen.ended("a", 0.1, True, 0.5 * n)
        seen.lost("a")
    assert seen.share(50.0) == 1.0


def test_little_is_not_believed() -> None:
    ends = [("a", 0.1, True, 0.2 * n) for n in range(12)]
    assert share(*ends[:9]) == 1.0
    assert share(*ends) == pytest.approx(0.5)


def test_a_node_that_did_something_else_meanwhile_is_not_slow() -> None:
    """Every tenth time it moves weights for 8 s."""
    seen, now_s = Throughput(), 0.0
    for n in range(200):
        now_s += 1.0 + 8.0 * (n % 10 == 5)
        seen.ended("a", 1.0, True, now_s)
    assert seen.share(now_s) == 1.0


def test_a_bad_moment_is_forgotten_while_nodes_are_not_full() -> None:
    seen = saw(*(("a", 0.5, True, 1.0 * n) for n in range(50)))
    assert seen.share(50.0) == pytest.approx(0.5)
    # The node has room from then on.
    for n in range(50, 60):
        seen.ended("a", 0.5, False, 1.0 * n)
    assert 0.5 < seen.share(70.0) < 0.9
    assert seen.share(200.0) == pytest.approx(1.0, abs=1e-3)
    # What is seen then counts beside it, little by little.
    shares = []
    for n in range(200, 250):
        seen.ended("a", 0.5, True, 1.0 * n)
        shares.append(seen.share(1.0 * n))
    assert shares[4] > 0.8
    assert shares[-1] < 0.6


@pytest.mark.parametrize("every", [2, 5])
def test_a_bad_moment_is_forgotten_where_nodes_are_full_now_and_then(every: int) -> None:
    """What ends there alone among others does not count, and must not keep the memory alive."""
    seen = saw(*(("a", 0.5, True, 1.0 * n) for n in range(60)))
    for n in range(60, 300):
        seen.ended("a", 1.0, n % every == 0, 1.0 * n)
    assert seen.share(300.0) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("done_s", [0.0, 0.05, 0.2, 0.3])
def test_rows_that_are_left_off_hide_no_slow_node(done_s: float) -> None:
    """A row of a second takes two, and half-way another one is dropped."""
    seen = Throughput()
    for n in range(100):
        seen.ended("a", done_s, True, 2.0 * n + 1.0, made=False)
        seen.ended("a", 1.0, True, 2.0 * n + 2.0)
    assert seen.share(201.0) == pytest.approx((1.0 + done_s) / 2, abs=0.02)


@pytest.mark.parametrize("nodes", [1, 4])
@pytest.mark.parametrize("row_s", [1.0, 6.5, 20.0])
def test_rows_that_take_long_are_no_quiet_time(nodes: int, row_s: float) -> None:
    seen = Throughput()
    ends = sorted((row_s * (n + i / nodes), f"n{i}") for n in range(60) for i in range(nodes))
    for now_s, name in ends:
        seen.ended(name, 0.5 * row_s, True, now_s)
    now_s = ends[-1][0]
    assert seen.share(now_s) == pytest.approx(0.5, rel=0.05)
    assert seen.share(now_s + 0.9 * row_s) == pytest.approx(0.5, rel=0.05)


def test_what_was_long_ago_is_forgotten() -> None:
    seen = saw(*(("a", 0.5, True, 1.0 * n) for n in range(50)))
    for n in range(50, 100):
        seen.ended("a", 1.0, True, 1.0 * n)
    assert seen.share(99.0) == 1.0


BASE = LADDER[:3]


def late_share(policy: ArgusPolicy, slowness: float) -> float:
    """Return the share of accepted tasks that are late on a serial node that nobody says is slow.

    Three times as many come as can be made, for two minutes; the first half is not counted.
    """
    only = node(slots=1, max_lanes=2)
    fleet = fleet_of([only], limit=1)
    cost_s = only.device_s(BASE[-1].row)
    arrive_s = cost_s / 3
    running: tuple[str, float] | None = None
    begun: dict[str, object] = {}
    accepted: dict[str, tuple[float, float]] = {}
    ended: dict[str, float] = {}
    now_s, number = 0.0, 0
    tasks = {}
    while now_s < 120 * cost_s:
        coming_s = number * arrive_s
        ending_s = running[1] if running else float("inf")
        now_s = min(coming_s, ending_s)
        if running and now_s == ending_s:
            done = tasks[running[0]]
            policy.ended(done, now_s)
            only.remove(done.id)
            ended[done.id] = now_s
            running = None
        else:
            number += 1
            come = task(BASE, 12 * cost_s, now_s)
            tasks[come.id] = come
            try:
                policy.admit(come, fleet, now_s)
                accepted[come.id] = now_s, come.deadline_at_s
            except (DeadlineError, OverloadedError):
                pass
        for start in start_all(policy, fleet, now_s):
            seconds = only.device_s(start.decision.offer.row) * slowness
            running = start.task.id, now_s + seconds
            begun[start.task.id] = now_s
    counted = [
        ended.get(name, float("inf")) > deadline_s
        for name, (came_s, deadline_s) in accepted.items()
        if 60 * cost_s < came_s < 100 * cost_s
    ]
    assert len(counted) > 10
    return sum(counted) / len(counted)


def test_of_rows_that_were_left_off_what_was_done_counts() -> None:
    """Nodes end them at their deadline; here half of the steps are done by then."""
    busy = node(slots=1, max_lanes=2)
    policy, fleet = ArgusPolicy(ArgusOptions(shed=False)), fleet_of([busy], limit=1)
    cost_s, now_s = busy.device_s(BASE[0].row), 0.0
    for _ in range(50):
        for remaining_s in (None, 1.2 * cost_s):
            policy.admit(task(BASE[:1], remaining_s, now_s), fleet, now_s)
        start = start_all(policy, fleet, now_s)[0]
        now_s += 1.2 * cost_s
        busy.progress(start.task.id, 25)
        policy.ended(start.task, now_s, made=False)
        busy.remove(start.task.id)
    assert policy._throughput.share(now_s) == pytest.approx(0.5 / 1.2, rel=0.05)


def test_a_queue_is_only_as_long_as_can_be_worked_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert late_share(ArgusPolicy(), 1.0) == 0.0
    assert late_share(ArgusPolicy(), 1.5) < 0.05
    monkeypatch.setattr(Throughput, "share", lambda self, now_s: 1.0)
    assert late_share(ArgusPolicy(), 1.5) > 0.25


def test_a_slot_that_nobody_wanted_does_not_make_a_node_slow() -> None:
    """Others wait all the while, but for another node."""
    policy, now_s = ArgusPolicy(), 0.0
    other = node("x", slots=1, costs={"small": SMALL_COSTS})
    half_idle = node("y", slots=1)
    fleet = fleet_of([other, half_idle], limit=1)
    other.add("full", row(50, variant="small"), 0.0)
    for _ in range(3):
        policy.admit(task(LADDER[3:], None, now_s), fleet, now_s)
    seconds = half_idle.idle_s(BASE[0].row)
    for _ in range(40):
        policy.admit(task(BASE[:1], None, now_s), fleet, now_s)
        (start,) = start_all(policy, fleet, now_s)
        now_s += seconds
        policy.ended(start.task, now_s)
        half_idle.remove(start.task.id)
        now_s += seconds
    assert policy._throughput.share(now_s) == 1.0
