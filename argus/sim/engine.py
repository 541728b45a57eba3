"""Discrete events in virtual time: arrivals, rows, failures, driving a policy as live ones do.

Times are seconds from the start of the trace. At equal times what ends goes before what arrives,
and events go in the order in which they were made, so that a run depends on its inputs alone.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator
from heapq import heappop, heappush
from time import perf_counter
from typing import Any

import numpy as np

from argus.control.backlog import PATIENCE_S, due_s
from argus.control.fleet import Fleet
from argus.control.policy import GiveUp, Policy, Start, Task
from argus.errors import ArgusError, InternalError, InvalidArgumentError
from argus.sim.belief import ReportedBacklog
from argus.sim.costs import node_info, node_name
from argus.sim.ledger import Ledger
from argus.sim.node import Row, SerialNode, TrueNode
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


class _Kind(enum.IntEnum):
    NODE = 0
    """Node index and version: something happens on a node."""
    FETCHED = 1
    """A row's fetch ended."""
    PLAN = 2
    DIES = 3
    NOTICED = 4
    RETURNS = 5


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
        self._profile = profile
        self._policy = policy
        self._setting = setting
        self._prompt_rows = prompts.rows(trace).tolist()
        self._slo_s = profile.slo_s if setting.slo_s is None else setting.slo_s
        self._offers = Offers(prompts, profile, setting)
        self._level_index = {level.name: i for i, level in enumerate(profile.levels)}
        self._ledger = Ledger(trace, prompts.quality, self._prompt_rows, self._slo_s)
        self._draw(seed)
        self._clock = VirtualClock()
        self._fleet = Fleet()
        self._nodes: list[TrueNode | None] = [None] * setting.nodes
        self._versions = [0] * setting.nodes
        self._backlogs: dict[int, ReportedBacklog] = {}
        self._held: list[dict[str, Row]] = [{} for _ in range(setting.nodes)]
        self._names = [node_name(i) for i in range(setting.nodes)]
        self._index_of = {name: i for i, name in enumerate(self._names)}
        self._events: list[tuple[float, int, _Kind, Any, int]] = []
        self._made = 0
        self._open = 0
        """Events that something may follow from beside plans: rows, fetches, failures."""
        self._waiting: dict[str, Task] = {}
        self._last_act_s = 0.0
        self._policy_s = 0.0
        self._decisions = 0

    def _draw(self, seed: int) -> None:
        """Draw what chance does to each arrival."""
        n = len(self._trace)
        service, fetch, miss = (
            np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3)
        )
        retrieval = self._setting.retrieval
        self._factors = _log_normal(service, self._setting.jitter, n)
        self._fetch_factors = _log_normal(fetch, retrieval.spread, n)
        self._misses = (miss.random(n) < retrieval.miss).tolist()

    # -- time -----------------------------------------------------------------------------------

    def run(self) -> Outcome:
        began = perf_counter()
        for index in range(self._setting.nodes):
            self._join(index)
        for loss in self._setting.losses:
            self._push(loss.at_s, _Kind.DIES, loss, 0)
            self._open += 1
        self._plan(0.0)
        arrivals = self._trace.arrival_s.tolist()
        events, clock = self._events, self._clock
        following = 0
        while self._ledger.left:
            next_s = arrivals[following] if following < len(arrivals) else math.inf
            if events and events[0][0] <= next_s:
                at_s, _, kind, what, version = heappop(events)
                clock.now_s = at_s
                self._happen(kind, what, version, at_s)
            elif following < len(arrivals):
                clock.now_s = next_s
                self._arrive(following, next_s)
                following += 1
            else:
                self._strand()
            if following == len(arrivals) and self._is_stuck():
                self._strand()
        return self._ledger.outcome(self._decisions, self._policy_s, perf_counter() - began)

    def _push(self, at_s: float, kind: _Kind, what: Any, version: int) -> None:
        self._made += 1
        heappush(self._events, (at_s, self._made, kind, what, version))

    def _happen(self, kind: _Kind, what: Any, version: int, now_s: float) -> None:
        match kind:
            case _Kind.NODE:
                if version == self._versions[what]:
                    self._advance(what, now_s)
            case _Kind.FETCHED:
                self._open -= 1
                self._fetched(what, version, now_s)
            case _Kind.PLAN:
                self._plan(now_s)
                self._dispatch(now_s)
            case _Kind.DIES:
                self._open -= 1
                self._die(what, now_s)
            case _Kind.NOTICED:
                self._open -= 1
                self._notice(what, now_s)
            case _Kind.RETURNS:
                self._open -= 1
                self._join(what.node)
                self._dispatch(now_s)

    def _is_stuck(self) -> bool:
        """Whether only plans are left to happen, and they have started nothing for long."""
        if self._open or any(self._held):
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
        )
        self._decisions += 1
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
            self._push(next_s, _Kind.PLAN, None, 0)

    def _end_waiting(self, task: Task) -> None:
        if self._waiting.pop(task.id, None) is None:
            raise InternalError(f"the policy gave up {task.id}, which does not wait")
        self._ledger.end(task.order, Status.DROPPED)

    # -- rows -----------------------------------------------------------------------------------

    def _start(self, act: Start, now_s: float) -> None:
        task, decision = act.task, act.decision
        if self._waiting.pop(task.id, None) is None:
            raise InternalError(f"the policy started {task.id}, which does not wait")
        node = self._index_of[decision.node]
        if not self._fleet.has_room(decision.node):
            raise InternalError(f"the policy gave {task.id} to {decision.node}, which is full")
        task.decision = decision
        offer = decision.offer
        level = self._level_index[offer.level.name]
        described = self._profile.levels[level]
        row = Row(
            index=task.order,
            task=task,
            level=level,
            variant=described.variant,
            lanes=offer.row.lanes,
            seconds=described.seconds,
            forwards=described.forwards,
            due_s=due_s(now_s, task.deadline_at_s),
            factor=self._factors[task.order],
        )
        self._fleet[decision.node].add(task.id, offer.row, row.due_s)
        self._held[node][task.id] = row
        if offer.skip and not self._setting.retrieval.is_free:
            self._fetch(row, node, now_s)
        else:
            self._give(row, node, now_s)

    def _fetch(self, row: Row, node: int, now_s: float) -> None:
        retrieval = self._setting.retrieval
        if retrieval.is_out(now_s):
            row.missed, seconds = True, retrieval.timeout_s
        else:
            row.missed = self._misses[row.index]
            seconds = retrieval.seconds * self._fetch_factors[row.index]
            if not row.missed:
                self._offers.fetched(seconds)
        self._open += 1
        self._push(now_s + seconds, _Kind.FETCHED, row, node)

    def _fetched(self, row: Row, node: int, now_s: float) -> None:
        """Let a row begin; one without its state runs all its steps."""
        if self._held[node].get(row.task.id) is not row:
            return  # its node was lost meanwhile
        if row.missed:
            row.level = self._profile.whole_of(row.level)
            whole = self._profile.levels[row.level]
            row.seconds, row.forwards = whole.seconds, whole.forwards
        self._give(row, node, now_s)

    def _give(self, row: Row, node: int, now_s: float) -> None:
        device = self._nodes[node]
        if device is None:
            return  # it is dead, which nobody has noticed yet
        self._note_started(node, device.add(row, now_s))
        self._watch(node, device)

    def _advance(self, node: int, now_s: float) -> None:
        device = self._nodes[node]
        assert device is not None
        ended, started = device.advance(now_s)
        backlog = self._backlogs[node]
        for row in ended:
            backlog.remove(row.task.id)
            del self._held[node][row.task.id]
            began = perf_counter()
            self._policy.ended(row.task, now_s)
            self._policy_s += perf_counter() - began
            if row.dropped:
                self._ledger.end(row.index, Status.DROPPED)
            else:
                self._ledger.finish(row.index, row.level, node, row.start_s, now_s)
        self._note_started(node, started)
        self._watch(node, device)
        if ended:
            self._dispatch(now_s)

    def _note_started(self, node: int, rows: list[Row]) -> None:
        backlog = self._backlogs[node]
        for row in rows:
            backlog.start(row.task.id)
            if row.missed and row.task.decision is not None:
                backlog.reshape(row.task.id, row.task.decision.offer.whole)

    def _watch(self, node: int, device: TrueNode) -> None:
        """Come back when the node does something next; what was expected before is void."""
        version = self._versions[node] = self._versions[node] + 1
        if device.next_s < math.inf:
            self._push(device.next_s, _Kind.NODE, node, version)

    # -- nodes ----------------------------------------------------------------------------------

    def _join(self, index: int) -> None:
        info = node_info(self._profile, self._setting, index)
        device = SerialNode(self._setting.scale(index), self._setting.drop_late)
        self._nodes[index] = device
        limit = info.slots + self._setting.lookahead
        self._backlogs[index] = ReportedBacklog(info, device, self._clock)
        self._fleet.add(self._backlogs[index], limit)

    def _die(self, loss: NodeLoss, now_s: float) -> None:
        if self._nodes[loss.node] is None:
            raise InvalidArgumentError("losses", f"node {loss.node} is lost twice at once")
        self._nodes[loss.node] = None
        self._backlogs[loss.node].silent = True
        self._versions[loss.node] += 1
        self._open += 1
        self._push(now_s + loss.noticed_s, _Kind.NOTICED, loss, 0)

    def _notice(self, loss: NodeLoss, now_s: float) -> None:
        """Forget a node and let its rows wait again, before all others."""
        name = self._names[loss.node]
        self._fleet.remove(name)
        rows, self._held[loss.node] = self._held[loss.node], {}
        for row in rows.values():
            task = row.task
            task.lost = True
            task.avoid.add(name)
            self._waiting[task.id] = task
            self._policy.put_back(task)
        if loss.back_s < math.inf:
            self._open += 1
            self._push(max(loss.back_s, now_s), _Kind.RETURNS, loss, 0)
        self._dispatch(now_s)


def _log_normal(rng: np.random.Generator, spread: float, n: int) -> list[float]:
    """Draw factors of mean 1 and the standard deviation `spread`."""
    if not spread:
        return [1.0] * n
    variance = math.log1p(spread**2)
    drawn: list[float] = rng.lognormal(-variance / 2, math.sqrt(variance), n).tolist()
    return drawn
