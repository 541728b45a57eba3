"""The true cluster: nodes that make rows, lose them, and report to the control plane's fleet."""

from __future__ import annotations

import math

from argus.clock import Clock
from argus.control.backlog import due_s
from argus.control.fleet import Fleet
from argus.control.policy import Start, Task
from argus.errors import InternalError, InvalidArgumentError
from argus.sim.batching import BatchingNode
from argus.sim.belief import ReportedBacklog
from argus.sim.chance import Chance
from argus.sim.costs import device_seconds, node_info, node_name
from argus.sim.events import Events, Kind
from argus.sim.node import Row, SerialNode, TrueNode
from argus.sim.placing import LOOK_S, SimPlacing
from argus.sim.requests import Offers
from argus.sim.residency import Residency
from argus.sim.setting import NodeLoss, Placing, SimSetting
from argus.sim.types import SimProfile


class _Node:
    """One node: the device, what the control plane believes of it, and the rows it was given."""

    def __init__(self, index: int, profile: SimProfile, setting: SimSetting, clock: Clock) -> None:
        info = node_info(profile, setting, index)
        scale = setting.scale(index)
        self.device: TrueNode
        if info.slots > 1:
            variants = device_seconds(profile, scale)
            self.device = BatchingNode(info.slots, info.max_lanes, variants, setting.drop_late)
        else:
            self.device = SerialNode(scale, setting.drop_late)
        self.backlog = ReportedBacklog(info, self.device, clock)
        self.residency: Residency | None = None
        if setting.residents is not None:
            names = profile.variant_names
            if setting.placing is not Placing.BY_ROWS:
                first = index * setting.residents % len(names)
                names = (*names[first:], *names[:first])
            load_s = {v: profile.times(v).load_s * scale for v in names}
            self.residency = Residency(setting.residents, load_s)
        self.limit = info.slots + setting.lookahead
        self.rows: dict[str, Row] = {}
        self.alive = True


class Cluster:
    """All nodes. Whoever drives it hands its events back and asks what ended.

    Args:
        profile: what levels take.
        setting: nodes and what befalls them.
        offers: hear how long fetches took.
        chance: service times and misses by arrival.
        clock: of the run.
        events: where what will happen on nodes is put.
    """

    def __init__(
        self,
        profile: SimProfile,
        setting: SimSetting,
        offers: Offers,
        chance: Chance,
        clock: Clock,
        events: Events,
    ) -> None:
        self.fleet = Fleet()
        self._profile = profile
        self._setting = setting
        self._offers = offers
        self._chance = chance
        self._clock = clock
        self._events = events
        self._level_index = {level.name: i for i, level in enumerate(profile.levels)}
        self._names = [node_name(i) for i in range(setting.nodes)]
        self._index_of = {name: i for i, name in enumerate(self._names)}
        self._versions = [0] * setting.nodes
        self._nodes: list[_Node] = []
        for index in range(setting.nodes):
            self._nodes.append(self._new(index))
        self._placing: SimPlacing | None = None
        if setting.residents is not None and setting.placing is not Placing.BY_ROWS:
            plans = setting.placing is Placing.PLANNED
            self._placing = SimPlacing(self.fleet, self._residency, plans, self._watch_named)
            self._placing.look(0.0)
            events.push(LOOK_S, Kind.PLACE)
        for loss in setting.losses:
            events.push(loss.at_s, Kind.DIES, loss)

    @property
    def holds_rows(self) -> bool:
        """Whether any node was given a row that has not ended."""
        return any(node.rows for node in self._nodes)

    @property
    def moves(self) -> int:
        """Orders of the plan that were carried out."""
        return 0 if self._placing is None else self._placing.placer.moves

    # -- residency ------------------------------------------------------------------------------

    def arrived(self, task: Task, now_s: float) -> None:
        """Count a request for the plan of residency, whatever becomes of it."""
        if self._placing is not None:
            self._placing.placer.note(task.offers, now_s)

    def place(self, now_s: float) -> None:
        """Look at residency, and come back."""
        if self._placing is not None:
            self._placing.look(now_s)
            self._events.push(now_s + LOOK_S, Kind.PLACE)

    def _residency(self, name: str) -> Residency | None:
        node = self._nodes[self._index_of[name]]
        return node.residency if node.alive else None

    def _watch_named(self, name: str) -> None:
        self._watch_residency(self._index_of[name])

    # -- rows -----------------------------------------------------------------------------------

    def start(self, act: Start, now_s: float) -> None:
        """Give a row to a node.

        Raises:
            InternalError: the node has no room, which the policy must know.
        """
        task, decision = act.task, act.decision
        if decision.node not in self.fleet or not self.fleet.has_room(decision.node):
            raise InternalError(f"the policy gave {task.id} to {decision.node}, which is full")
        index = self._index_of[decision.node]
        node = self._nodes[index]
        offer = decision.offer
        row = self._row(task, self._level_index[offer.level.name], now_s)
        node.backlog.add(task.id, offer.row, row.due_s)
        node.rows[task.id] = row
        if offer.skip and not self._setting.retrieval.is_free:
            self._fetch(row, index, now_s)
        else:
            self._give(row, index, now_s)

    def _row(self, task: Task, level: int, now_s: float) -> Row:
        described = self._profile.levels[level]
        return Row(
            index=task.order,
            task=task,
            level=level,
            variant=described.variant,
            lanes=self._profile.batching.row_lanes,
            seconds=described.seconds,
            forwards=described.forwards,
            due_s=due_s(now_s, task.deadline_at_s),
            factor=self._chance.service[task.order],
        )

    def _fetch(self, row: Row, node: int, now_s: float) -> None:
        retrieval = self._setting.retrieval
        if retrieval.is_out(now_s):
            row.missed, seconds = True, retrieval.timeout_s
        else:
            row.missed = self._chance.misses[row.index]
            seconds = retrieval.seconds * self._chance.fetch[row.index]
            if not row.missed:
                self._offers.fetched(seconds)
        self._events.push(now_s + seconds, Kind.FETCHED, row, node)

    def fetched(self, row: Row, node: int, now_s: float) -> bool:
        """Let a row begin, and return whether it did; one without its state runs all its steps."""
        if self._nodes[node].rows.get(row.task.id) is not row:
            return False  # its node was lost meanwhile
        if row.missed:
            row.level = self._profile.whole_of(row.level)
            whole = self._profile.levels[row.level]
            row.seconds, row.forwards = whole.seconds, whole.forwards
        self._give(row, node, now_s)
        return True

    def _give(self, row: Row, index: int, now_s: float) -> None:
        node = self._nodes[index]
        if not node.alive:
            return  # which nobody has noticed yet
        if node.residency is None:
            self._let_in([row], index, now_s)
        else:
            self._let_in(node.residency.take(row, now_s), index, now_s)
            self._watch_residency(index)

    def _let_in(self, rows: list[Row], index: int, now_s: float) -> None:
        node = self._nodes[index]
        for row in rows:
            self._note_started(node, node.device.add(row, now_s))
        if rows:
            self._watch(index)

    def advance(self, index: int, version: int, now_s: float) -> list[Row]:
        """Let a device go on; return the rows that ended, whose room `release` makes."""
        if version != self._versions[index]:
            return []
        node = self._nodes[index]
        ended, started = node.device.advance(now_s)
        for row in ended:
            del node.rows[row.task.id]
        self._note_started(node, started)
        self._watch(index)
        if ended and node.residency is not None:
            for row in ended:
                node.residency.ended(row, now_s)
            self._watch_residency(index)
        return ended

    def release(self, row: Row, index: int) -> None:
        """Make room where a row has ended, once the policy knows of it, as live."""
        self._nodes[index].backlog.remove(row.task.id)

    def move(self, index: int, now_s: float) -> None:
        """Let a load end or begin."""
        node = self._nodes[index]
        if node.alive and node.residency is not None and node.residency.next_s <= now_s:
            self._let_in(node.residency.advance(now_s), index, now_s)
            if self._placing is not None:
                self._placing.moved(self._names[index], now_s)
            self._watch_residency(index)

    def _note_started(self, node: _Node, rows: list[Row]) -> None:
        for row in rows:
            node.backlog.start(row.task.id)
            if row.missed and row.task.decision is not None:
                node.backlog.reshape(row.task.id, row.task.decision.offer.whole)

    def _watch(self, index: int) -> None:
        """Come back when the device does something next; what was expected before is void."""
        version = self._versions[index] = self._versions[index] + 1
        next_s = self._nodes[index].device.next_s
        if next_s < math.inf:
            self._events.push(next_s, Kind.NODE, index, version)

    def _watch_residency(self, index: int) -> None:
        residency = self._nodes[index].residency
        if residency is not None and residency.next_s < math.inf:
            self._events.push(residency.next_s, Kind.RESIDENCY, index)

    # -- nodes ----------------------------------------------------------------------------------

    def _new(self, index: int) -> _Node:
        node = _Node(index, self._profile, self._setting, self._clock)
        self.fleet.add(node.backlog, node.limit)
        return node

    def die(self, loss: NodeLoss, now_s: float) -> None:
        """Let a node stop for good, unnoticed."""
        node = self._nodes[loss.node]
        if not node.alive:
            raise InvalidArgumentError("losses", f"node {loss.node} is lost twice at once")
        node.alive = False
        node.backlog.silent = True
        self._versions[loss.node] += 1
        self._events.push(now_s + loss.noticed_s, Kind.NOTICED, loss)

    def notice(self, loss: NodeLoss, now_s: float) -> list[Task]:
        """Take a dead node out of the fleet; return the tasks it had."""
        name = self._names[loss.node]
        node = self._nodes[loss.node]
        self.fleet.remove(name)
        if self._placing is not None:
            self._placing.lost(name)
        tasks = [row.task for row in node.rows.values()]
        node.rows = {}
        for task in tasks:
            task.lost = True
            task.avoid.add(name)
        if loss.back_s < math.inf:
            self._events.push(max(loss.back_s, now_s), Kind.RETURNS, loss)
        return tasks

    def come_back(self, loss: NodeLoss) -> None:
        """Let a node join again, empty."""
        self._nodes[loss.node] = self._new(loss.node)
