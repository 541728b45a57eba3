"""Discrete events in virtual time: arrivals, rows, failures, driving a policy as live ones do.

Times are seconds from the start of the trace. At equal times what ends goes before what arrives,
and events go in the order in which they were made, so that a run depends on its inputs alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from time import perf_counter

from argus.control.backlog import PATIENCE_S
from argus.control.policy import GiveUp, Policy, Reviewer, Start, Task
from argus.errors import ArgusError, InternalError, InvalidArgumentError
from argus.sim.chance import Chance
from argus.sim.cluster import Cluster
from argus.sim.events import Event, Events, Kind
from argus.sim.ledger import Ledger
from argus.sim.node import Row
from argus.sim.outcome import Outcome, Status
from argus.sim.requests import Offers
from argus.sim.setting import NodeLoss, SimSetting
from argus.sim.types import PromptTable, SimProfile, Trace

PUBLISHED_SETTING = SimSetting()


def simulate(
    trace: Trace,
    prompts: PromptTable,
    profile: SimProfile,
    policy: Policy,
    setting: SimSetting = PUBLISHED_SETTING,
    seed: int = 0,
) -> Outcome:
    """Run a trace against a policy and return what became of every arrival.

    Args:
        trace: who comes when.
        prompts: with every prompt of the trace.
        profile: levels, as many as the prompts have qualities.
        policy: new; it is driven to the end of its work.
        setting: the true cluster.
        seed: of service times and of fetches that fail. Both belong to the arrival and are the
            same under every policy.

    Raises:
        InvalidArgumentError: the inputs do not fit together.
        InternalError: the policy broke its contract.
    """
    if prompts.levels != len(profile.levels):
        raise InvalidArgumentError(
            "prompts.quality", f"of {len(profile.levels)} levels are needed, not {prompts.levels}"
        )
    return _Run(trace, prompts, profile, policy, setting, seed).run()


class VirtualClock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def now(self) -> float:
        """Return the time it was set to."""
        return self.now_s


class _Run:
    def __init__(
        self,
        trace: Trace,
        prompts: PromptTable,
        profile: SimProfile,
        policy: Policy,
        setting: SimSetting,
        seed: int,
    ) -> None:
        self._trace = trace
        self._policy = policy
        self._reviewer = policy if isinstance(policy, Reviewer) else None
        self._qualities: list[list[float]] = prompts.quality.tolist()
        self._prompt_rows = prompts.rows(trace).tolist()
        self._similarity = prompts.similarity.tolist()
        self._slo_s = profile.slo_s if setting.slo_s is None else setting.slo_s
        self._offers = Offers(prompts, profile, setting)
        self._ledger = Ledger(trace, prompts.quality, self._prompt_rows, self._slo_s)
        self._clock = VirtualClock()
        self._events = Events()
        chance = Chance(setting, len(trace), seed)
        self._cluster = Cluster(profile, setting, self._offers, chance, self._clock, self._events)
        self._fleet = self._cluster.fleet
        self._waiting: dict[str, Task] = {}
        self._last_act_s = 0.0
        self._policy_s = 0.0
        self._decisions = 0

    # -- time -----------------------------------------------------------------------------------

    def run(self) -> Outcome:
        began = perf_counter()
        self._plan(0.0)
        for index, at_s in enumerate(self._trace.arrival_s.tolist()):
            while self._events.next_s <= at_s:
                self._happen(self._events.pop())
            self._clock.now_s = at_s
            self._arrive(index, at_s)
        while self._ledger.left and not self._is_stuck():
            self._happen(self._events.pop())
        self._strand()
        outcome = self._ledger.outcome(self._decisions, self._policy_s, perf_counter() - began)
        return replace(outcome, moves=self._cluster.moves)

    def _happen(self, event: Event) -> None:
        now_s, _, kind, what, number = event
        self._clock.now_s = now_s
        cluster = self._cluster
        match kind:
            case Kind.NODE:
                self._ended(cluster.advance(what, number, now_s), what, now_s)
            case Kind.FETCHED:
                self._fetched(what, number, now_s)
            case Kind.RESIDENCY:
                cluster.move(what, now_s)
            case Kind.PLACE:
                cluster.place(now_s)
                self._dispatch(now_s)
            case Kind.PLAN:
                self._plan(now_s)
                self._dispatch(now_s)
            case Kind.DIES:
                cluster.die(what, now_s)
            case Kind.NOTICED:
                self._lost(what, now_s)
            case Kind.RETURNS:
                cluster.come_back(what)
                self._dispatch(now_s)

    def _fetched(self, row: Row, index: int, now_s: float) -> None:
        """Let a row begin whose fetch ended, and tell the policy what it found."""
        if self._cluster.fetched(row, index, now_s):
            self._policy.fetched(row.task, not row.missed)

    def _ended(self, rows: list[Row], node: int, now_s: float) -> None:
        """Tell the policy of rows that ended on a node, and use the room they left."""
        for row in rows:
            began = perf_counter()
            self._policy.ended(row.task, now_s, not row.dropped)
            self._cluster.release(row, node)
            again = not row.dropped and self._is_made_again(row, now_s)
            self._policy_s += perf_counter() - began
            if again:
                self._waiting[row.task.id] = row.task
            elif row.dropped:
                self._ledger.end(row.index, Status.DROPPED)
            else:
                self._ledger.finish(row.index, row.level, node, row.start_s, now_s)
        if rows:
            self._dispatch(now_s)

    def _is_made_again(self, row: Row, now_s: float) -> bool:
        """Whether a cascade wants a second pass. Its discriminator sees the true quality."""
        if self._reviewer is None:
            return False
        score = self._qualities[self._prompt_rows[row.index]][row.level]
        return not self._reviewer.review(row.task, score, self._fleet, now_s)

    def _lost(self, loss: NodeLoss, now_s: float) -> None:
        """Let the rows of a lost node wait again, before all others."""
        for task in self._cluster.notice(loss, now_s):
            self._waiting[task.id] = task
            self._policy.put_back(task)
        self._dispatch(now_s)

    def _is_stuck(self) -> bool:
        """Whether nothing is left to happen but plans, and they have started nothing for long."""
        if self._events.next_s == math.inf:
            return True
        if self._events.singular or self._cluster.holds_rows:
            return False
        return self._clock.now_s > self._last_act_s + self._slo_s + PATIENCE_S

    def _strand(self) -> None:
        """End what waits for nodes that will never take it, as the live watchdog does."""
        for task in tuple(self._waiting.values()):
            self._policy.withdraw(task)
            self._end_waiting(task)
        if self._ledger.left:
            raise InternalError(f"{self._ledger.left} arrivals were forgotten")

    # -- the policy -----------------------------------------------------------------------------

    def _arrive(self, index: int, now_s: float) -> None:
        task = Task(
            id=str(index),
            offers=self._offers.of(self._prompt_rows[index]),
            arrived_s=now_s,
            deadline_at_s=now_s + self._slo_s,
            order=index,
            similarity=self._similarity[self._prompt_rows[index]],
        )
        self._decisions += 1
        self._cluster.arrived(task, now_s)
        began = perf_counter()
        try:
            task.decision = self._policy.admit(task, self._fleet, now_s)
        except ArgusError:
            self._ledger.end(index, Status.REFUSED)
            return
        finally:
            self._policy_s += perf_counter() - began
        self._waiting[task.id] = task
        self._last_act_s = now_s
        self._dispatch(now_s)

    def _dispatch(self, now_s: float) -> None:
        for act in self._acts(now_s):
            self._decisions += 1
            self._last_act_s = now_s
            if isinstance(act, Start):
                self._start(act, now_s)
            else:
                self._end_waiting(act.task)

    def _acts(self, now_s: float) -> Iterator[Start | GiveUp]:
        """Yield what the policy does, with its time measured."""
        acts = iter(self._policy.dispatch(self._fleet, now_s))
        while True:
            began = perf_counter()
            act = next(acts, None)
            self._policy_s += perf_counter() - began
            if act is None:
                return
            yield act

    def _plan(self, now_s: float) -> None:
        began = perf_counter()
        next_s = self._policy.plan(self._fleet, now_s)
        self._policy_s += perf_counter() - began
        if next_s <= now_s:
            raise InternalError(f"the policy wants to plan again at {next_s} s, which is not later")
        if next_s < math.inf:
            self._events.push(next_s, Kind.PLAN)

    def _end_waiting(self, task: Task) -> None:
        if self._waiting.pop(task.id, None) is None:
            raise InternalError(f"the policy gave up {task.id}, which does not wait")
        self._ledger.end(task.order, Status.DROPPED)

    def _start(self, act: Start, now_s: float) -> None:
        task = act.task
        if self._waiting.pop(task.id, None) is None:
            raise InternalError(f"the policy started {task.id}, which does not wait")
        task.decision = act.decision
        self._cluster.start(act, now_s)
