"""Tenants share what Argus's policy makes: by weight under overload, and nobody is starved."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argus.control.backlog import NodeBacklog
from argus.control.fairness import HEAD_START_S, Share
from argus.control.fleet import Fleet
from argus.control.policies.argus import ArgusPolicy
from argus.control.policy import GiveUp, Start, Task
from argus.errors import ArgusError
from tests.unit.control.build import node
from tests.unit.control.deciding import LADDER, fleet_of, task

BASE = LADDER[:3]
ALONE_S = node(slots=1).idle_s(BASE[0].row)
LEAST_S = node(slots=1).idle_s(BASE[-1].row)


def serial(name: str) -> NodeBacklog:
    return node(name, slots=1, max_lanes=2)


class Run:
    """A policy on serial nodes whose rows take what was predicted."""

    def __init__(self, shares: dict[str, Share], nodes: int = 1) -> None:
        self.policy = ArgusPolicy(share_of=lambda tenant: shares.get(tenant, Share()))
        self.fleet: Fleet = fleet_of([serial(f"n{i}") for i in range(nodes)], limit=1)
        self.now_s = 0.0
        self.ends: list[tuple[float, int, Start]] = []
        self.made_s: Counter[str] = Counter()
        """Device seconds, by tenant."""
        self.order: list[str] = []
        self.late = 0
        self.waits_s: dict[str, list[float]] = {}

    def ask(self, tenant: str, deadline_s: float | None) -> bool:
        """Offer a request now; return whether it was accepted."""
        new = replace(task(BASE, deadline_s, self.now_s), tenant=tenant)
        try:
            self.policy.admit(new, self.fleet, self.now_s)
        except ArgusError:
            return False
        self._dispatch()
        return True

    def go_to(self, now_s: float) -> None:
        """Let rows end until then."""
        while self.ends and self.ends[0][0] <= now_s:
            self.now_s, _, start = heapq.heappop(self.ends)
            self.fleet[start.decision.node].remove(start.task.id)
            self.policy.ended(start.task, self.now_s)
            self.late += self.now_s > start.task.deadline_at_s + 1e-6
            self._dispatch()
        self.now_s = now_s

    def _dispatch(self) -> None:
        for act in self.policy.dispatch(self.fleet, self.now_s):
            if isinstance(act, GiveUp):
                continue
            backlog = self.fleet[act.decision.node]
            row = act.decision.offer.row
            backlog.add(act.task.id, row, act.task.deadline_at_s)
            backlog.start(act.task.id)
            taken_s = backlog.idle_s(row)
            heapq.heappush(self.ends, (self.now_s + taken_s, act.task.order, act))
            tenant = act.task.tenant
            self.made_s[tenant] += taken_s
            self.order.append(tenant)
            self.waits_s.setdefault(tenant, []).append(self.now_s - act.task.arrived_s)


def overload(
    run: Run, tenants: Iterable[str], gap_s: float, until_s: float, deadline_s: float | None
) -> None:
    """Let each tenant ask every `gap_s`."""
    rng = random.Random(1)
    times = sorted(
        (rng.uniform(0, until_s), tenant) for tenant in tenants for _ in range(int(until_s / gap_s))
    )
    for at_s, tenant in times:
        run.go_to(at_s)
        run.ask(tenant, deadline_s)


@given(st.lists(st.floats(0.3, 4.0), min_size=2, max_size=4))
@settings(max_examples=4, deadline=None)
def test_shares_under_overload_follow_the_weights(weights: list[float]) -> None:
    """Each alone asks for all that the two nodes can do at their least, and nobody is late."""
    shares = {f"t{i}": Share(weight) for i, weight in enumerate(weights)}
    run = Run(shares, nodes=2)
    overload(run, shares, LEAST_S / 2, 150.0, 4 * ALONE_S)
    total_s = run.made_s.total()
    for tenant, share in shares.items():
        due = share.weight / sum(weights)
        assert run.made_s[tenant] / total_s == pytest.approx(due, abs=0.06)
    assert run.late == 0


@given(st.lists(st.floats(0.3, 4.0), min_size=2, max_size=4))
@settings(max_examples=4, deadline=None)
def test_shares_without_deadlines_follow_the_weights_while_all_wait(weights: list[float]) -> None:
    shares = {f"t{i}": Share(weight) for i, weight in enumerate(weights)}
    run = Run(shares)
    for tenant in shares:
        for _ in range(200):
            run.ask(tenant, None)
    run.go_to(150 * ALONE_S)
    for tenant, share in shares.items():
        due = share.weight / sum(weights)
        assert run.made_s[tenant] / run.made_s.total() == pytest.approx(due, abs=0.03)


@pytest.mark.parametrize("deadline_s", [None, 4 * ALONE_S])
def test_a_light_tenant_is_served_whatever_a_heavy_one_asks(deadline_s: float | None) -> None:
    """The light one asks for an eighth of the node; the heavy one for ten times all of it."""
    run = Run({})
    rng = random.Random(2)
    asked = accepted = 0
    next_light_s = 8 * ALONE_S
    for _ in range(1200):
        run.go_to(run.now_s + rng.expovariate(1 / (LEAST_S / 10)))
        run.ask("heavy", deadline_s)
        if run.now_s >= next_light_s:
            asked += 1
            accepted += run.ask("light", deadline_s)
            next_light_s += 8 * ALONE_S
    run.go_to(run.now_s + 100 * ALONE_S)
    assert accepted == asked >= 3
    assert run.late == 0
    assert len(run.waits_s["light"]) == asked
    if deadline_s is None:
        # Never more than the row that runs, one turn of the other's, and its own before it.
        assert max(run.waits_s["light"]) <= 3 * ALONE_S


def test_without_tenants_the_most_urgent_go_first() -> None:
    run = Run({})
    run.ask("", None)
    for deadline_s in (50.0, 30.0, 40.0):
        run.ask("", deadline_s)
    deadlines = []
    while run.ends:
        run.go_to(run.ends[0][0])
        deadlines += [start.task.deadline_at_s for _, _, start in run.ends]
    assert deadlines == [30.0, 40.0, 50.0]


def test_within_a_tenants_share_the_most_urgent_go_first() -> None:
    run = Run({})
    run.ask("a", 59.0)
    for tenant, deadline_s in itertools.product("ab", (58.0, 57.0)):
        run.ask(tenant, deadline_s)
    started: list[tuple[str, float]] = []
    while run.ends:
        run.go_to(run.ends[0][0])
        started += [(s.task.tenant, s.task.deadline_at_s) for _, _, s in run.ends]
    assert [x for x in started if x[0] == "a"] == [("a", 57.0), ("a", 58.0)]
    assert [x for x in started if x[0] == "b"] == [("b", 57.0), ("b", 58.0)]
    assert [tenant for tenant, _ in started] == ["b", "a", "b", "a"]


def test_fairness_does_not_make_late_who_was_accepted() -> None:
    """It is b's turn, but a's second task would be late behind one of b's."""
    run = Run({"b": Share(100.0)})
    run.ask("a", 1000.0)
    run.ask("b", None)
    run.ask("b", None)
    urgent_s = ALONE_S + 1.2 * LEAST_S
    assert run.ask("a", urgent_s)
    run.go_to(1000.0)
    assert run.order[:2] == ["a", "a"]
    assert run.late == 0


def test_priority_goes_first_by_its_head_start_and_no_further() -> None:
    run = Run({"first": Share(1.0, 1)})
    for _ in range(40):
        run.ask("other", None)
    for _ in range(40):
        run.ask("first", None)
    run.go_to(39 * ALONE_S)
    lead = math.ceil(HEAD_START_S / ALONE_S)
    assert run.order[0] == "other"
    assert run.order[1 : 1 + lead] == ["first"] * lead
    counts = Counter(run.order)
    assert abs(counts["first"] - counts["other"]) <= lead + 1


def test_a_tenant_that_has_its_share_does_not_push_others_out() -> None:
    """Both flood: what was accepted of one is not let go for ever more of the other."""
    run = Run({})
    overload(run, ("a", "b"), LEAST_S / 4, 150.0, 4 * ALONE_S)
    flood = Counter(run.order)
    assert abs(flood["a"] - flood["b"]) <= 0.1 * flood.total()


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 12)), min_size=1, max_size=9),
    st.tuples(*[st.sampled_from([0.5, 1.0, 3.0])] * 3),
)
@settings(max_examples=40, deadline=None)
def test_small_cases_are_served_as_the_rule_says(
    asked: list[tuple[str, int]], weights: tuple[float, float, float]
) -> None:
    """Against start-time fair queueing played by hand on the node's one after the other."""
    shares = {tenant: Share(weight) for tenant, weight in zip("abc", weights, strict=True)}
    run = Run(shares)
    arrivals = sorted((float(at), i, tenant) for i, (tenant, at) in enumerate(asked))
    for at_s, _, tenant in arrivals:
        run.go_to(at_s)
        run.ask(tenant, None)
    run.go_to(10_000.0)
    assert run.order == _by_hand([(at, tenant) for at, _, tenant in arrivals], shares)


def _by_hand(arrivals: list[tuple[float, str]], shares: dict[str, Share]) -> list[str]:
    coming = deque(arrivals)
    waiting: Counter[str] = Counter()
    turn: dict[str, float] = {}
    end = dict.fromkeys(shares, 0.0)
    virtual = 0.0
    free_at = 0.0
    order: list[str] = []
    while coming or waiting.total():
        # An idle node takes whoever comes first; a busy one looks at all who came meanwhile.
        start = free_at if waiting.total() else max(free_at, coming[0][0])
        while coming and (coming[0][0] < start or not waiting.total()):
            at, tenant = coming.popleft()
            if not waiting[tenant]:
                turn[tenant] = max(virtual, end[tenant])
            waiting[tenant] += 1
            start = max(start, at)
        chosen = min((t for t in waiting if waiting[t]), key=lambda t: (turn[t], t))
        virtual = max(virtual, turn[chosen])
        end[chosen] = turn[chosen] = turn[chosen] + ALONE_S / shares[chosen].weight
        order.append(chosen)
        waiting[chosen] -= 1
        free_at = start + ALONE_S
    return order


def test_a_lost_task_goes_before_everybody() -> None:
    policy = ArgusPolicy()
    fleet = fleet_of([serial("n")], limit=1)
    tasks = [replace(task(BASE, None), tenant=tenant) for tenant in ("a", "b", "a")]
    for new in tasks:
        policy.admit(new, fleet, 0.0)
        for act in policy.dispatch(fleet, 0.0):
            assert isinstance(act, Start)
            fleet["n"].add(act.task.id, act.decision.offer.row)
    _lose(policy, fleet, tasks[0])
    act = next(iter(policy.dispatch(fleet, 1.0)))
    assert act.task is tasks[0]


def _lose(policy: ArgusPolicy, fleet: Fleet, lost: Task) -> None:
    fleet["n"].remove(lost.id)
    lost.lost = True
    policy.put_back(lost)
