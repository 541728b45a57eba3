"""Which variants nodes serve, and the orders that bring a plan's residency about.

No row is interrupted: a node that is to give up a variant is sent no more rows of it, and ordered
to move when those it has are done. A variant goes from one node only where another one serves it
already, or where the plan wants it nowhere. A node is moved when two plans in a row want the same
of it, only a part of the nodes at once, and not again before what it loaded had its stay.

What no node has on its device is served by one that could load it, and moved in there by the
engine's own rule when rows wait for it, so that whatever may be asked for is made. A node with
nothing on its device serves all that it has in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from argus.control.backlog import NodeBacklog
from argus.control.fleet import Fleet
from argus.control.grouping import PlannedNode
from argus.control.offers import Offer
from argus.control.planner import Plan, PlannerOptions, State
from argus.control.wants import Wants

Variants = frozenset[str]

PLANNED_FOR = PlannerOptions(shortest_s=5.0, occupancy=0.8, moved_by=0.5)
"""Residency is slow to change: less is planned for than for shares of levels, and less often."""


@dataclass(frozen=True, slots=True)
class PlacingOptions:
    """How fast plans are carried out.

    Attributes:
        memory_s: of the rates of demand.
        fall_s: in which the demand that is planned for falls, so that a lull moves nothing.
        moving_share: of the nodes that move at once; one may always.
        stay_s: a node that was moved stays so for at least this long,
        stay_in_loads: and for at least so many times what loading took.
        again_s: after a refusal.
    """

    memory_s: float = 60.0
    fall_s: float = 120.0
    moving_share: float = 0.25
    stay_s: float = 20.0
    stay_in_loads: float = 4.0
    again_s: float = 10.0


@dataclass(frozen=True, slots=True)
class MoveOrder:
    """For a node: take `park` off its device, then bring `load` in; empty: nothing."""

    node: str
    load: str
    park: tuple[str, ...]


@dataclass(slots=True)
class _Record:
    """What is known of a node's variants.

    Attributes:
        resident: on its device; None: it has not said.
        unloaded: by operators.
        target: of the last plan that wanted a change.
        agreed: whether the one before wanted the same.
        leaving: what it is sent no more rows of, since it is to be parked.
        order: that is being carried out.
        rests_until_s: before then it is not moved again.
    """

    resident: Variants | None = None
    unloaded: Variants = frozenset()
    target: Variants | None = None
    agreed: bool = False
    leaving: Variants = frozenset()
    order: MoveOrder | None = None
    rests_until_s: float = -math.inf


@dataclass(slots=True)
class Placer:
    """Keeps what nodes serve in step with what they hold, and carries plans out.

    Pure: it gives orders, and is told what became of them.

    Args:
        fleet: whose nodes' `serving` it sets.
        plans: whether residency is planned; else every node serves all that it has, but for what
            operators unloaded.
        options: settings.
    """

    fleet: Fleet
    plans: bool = True
    options: PlacingOptions = field(default_factory=PlacingOptions)
    wants: Wants = field(init=False)
    moves: int = field(default=0, init=False)
    """Orders carried out."""
    _records: dict[str, _Record] = field(default_factory=dict, init=False)
    _needed: bool = field(default=False, init=False)
    _epoch: int = field(default=-1, init=False)
    _served_epoch: int = field(default=-1, init=False)

    def __post_init__(self) -> None:
        self.wants = Wants(self.options.memory_s, self.options.fall_s)

    # -- what is known --------------------------------------------------------------------------

    def note(self, offers: tuple[Offer, ...], now_s: float) -> None:
        """Count a request."""
        if self.is_needed:
            self.wants.note(offers, now_s)

    @property
    def is_needed(self) -> bool:
        """Whether residency is planned: some node has no room for all of its variants."""
        if self.plans and self.fleet.epoch != self._epoch:
            # Asked with every request, so nodes are looked at only when one came or went.
            self._epoch = self.fleet.epoch
            self._needed = any(node.info.is_crowded for node in self.fleet)
        return self._needed

    def seen(self, node: str, resident: Iterable[str]) -> None:
        """Note what is on a node's device now."""
        self._record(node).resident = frozenset(resident)

    def joined(self, node: str) -> None:
        """Note that a node has joined; what operators unloaded on it before stays so."""
        self._records[node] = _Record(unloaded=self._record(node).unloaded)
        self._serve()

    def forget(self, node: str) -> None:
        """Forget a node that left, but for what operators unloaded."""
        if not self._record(node).unloaded:
            del self._records[node]
        else:
            self._records[node] = _Record(unloaded=self._record(node).unloaded)

    def ordered(self, order: MoveOrder) -> MoveOrder:
        """Note an order that somebody else gives; it is to be answered with `ended`, too."""
        record = self._record(order.node)
        record.order, record.target, record.agreed = order, None, False
        record.leaving = frozenset(order.park)
        self._serve()
        return order

    def unload(self, node: str, variant: str) -> None:
        """Note that an operator wants no more rows of a variant on a node."""
        record = self._record(node)
        record.unloaded |= {variant}
        self._serve()

    def allow(self, node: str, variant: str) -> None:
        """Take that back."""
        record = self._record(node)
        record.unloaded -= {variant}
        self._serve()

    def unloaded(self, node: str) -> Variants:
        """Return what operators have unloaded on a node."""
        return self._record(node).unloaded

    def ended(self, node: str, resident: Iterable[str], refused: bool, now_s: float) -> None:
        """Note that a node has answered an order."""
        record = self._record(node)
        order, record.order, record.leaving = record.order, None, frozenset()
        record.resident = frozenset(resident)
        rest_s = self.options.again_s
        if not refused:
            self.moves += 1
            load_s = 0.0
            if order is not None and order.load:
                load_s = _by_variant(self.fleet[node], "load_s").get(order.load, 0.0)
            more = record.target is not None and record.target - record.resident
            rest_s = max(self.options.stay_s, self.options.stay_in_loads * load_s)
            rest_s = 0.0 if more else rest_s
        record.rests_until_s = now_s + rest_s
        self._serve()

    @property
    def moving(self) -> tuple[str, ...]:
        """Nodes that are about to move, or move."""
        found = (n for n, r in self._records.items() if r.order is not None or r.leaving)
        return tuple(sorted(found))

    # -- plans ----------------------------------------------------------------------------------

    def state(self, now_s: float) -> State | None:
        """Return what a plan is to be made of; None where there is nothing to plan."""
        if not self.is_needed:
            return None
        classes = self.wants.classes(now_s)
        nodes = [node for node in self.fleet if not node.draining]
        if not classes or not nodes:
            return None
        weights: dict[str, float] = {}
        for node in nodes:
            weights |= _by_variant(node, "weights_bytes")
        return State(
            self.wants.levels, tuple(self._planned(node) for node in nodes), classes, weights
        )

    def _planned(self, node: NodeBacklog) -> PlannedNode:
        record = self._record(node.info.name)
        able = node.variants - record.unloaded
        seconds = {
            name: node.device_s(shape)
            for name, shape in self.wants.shapes.items()
            if shape.variant in able
        }
        load_s = {
            name: seconds for name, seconds in _by_variant(node, "load_s").items() if name in able
        }
        crowded = node.info.is_crowded
        return PlannedNode(
            name=node.info.name,
            holds=self._resident(node) & able,
            seconds=seconds,
            memory_bytes=float(node.info.weights_budget) if crowded else math.inf,
            load_s=load_s if crowded else {},
            kind=node.info.device_name,
        )

    def aim(self, plan: Plan) -> None:
        """Take a new plan's residency as the aim."""
        for name, record in self._records.items():
            target = plan.targets.get(name)
            if target is not None and name in self.fleet:
                target |= frozenset(self.fleet[name].info.pinned)
                if not self._fits(self.fleet[name], target):
                    target = None
            record.agreed = target is not None and target == record.target
            record.target = target
            if target is None and record.order is None:
                record.leaving = frozenset()
        self._serve()

    # -- orders ---------------------------------------------------------------------------------

    def orders(self, now_s: float) -> list[MoveOrder]:
        """Return the orders to be sent now; each is to be answered with `ended`."""
        if not self.is_needed:
            if self.fleet.epoch != self._served_epoch:
                self._serve()
                self._served_epoch = self.fleet.epoch
            return []
        for name in [name for name in self._records if name not in self.fleet]:
            self.forget(name)
        busy = [r for r in self._records.values() if r.order is not None or r.leaving]
        room = max(1, int(self.options.moving_share * len(self.fleet))) - len(busy)
        found = []
        for node in self.fleet:
            record = self._record(node.info.name)
            if record.target is None or record.order is not None or node.draining:
                continue
            if not record.leaving and not (room > 0 and self._may_begin(node, record, now_s)):
                continue
            resident = self._resident(node)
            leaving = resident - record.target
            if not record.leaving:
                room -= 1
            record.leaving = leaving
            if any(node.rows_of(variant) for variant in leaving):
                continue
            load = min(record.target - resident, default="")
            record.order = MoveOrder(node.info.name, load, tuple(sorted(leaving)))
            found.append(record.order)
        self._serve()
        return found

    def _may_begin(self, node: NodeBacklog, record: _Record, now_s: float) -> bool:
        """Whether a node may begin to move towards its target."""
        target, resident = record.target, self._resident(node)
        if target is None or target == resident or not record.agreed:
            return False
        if now_s < record.rests_until_s:
            return False
        others = [x for x in self.fleet if x is not node and not x.draining]
        # The last one stays where it is: rows of it would have to wait for a load.
        staying = frozenset[str]().union(*(self._stays(x) for x in others))
        return resident - target <= staying

    # -- who serves what ------------------------------------------------------------------------

    def _serve(self) -> None:
        """Set what nodes serve."""
        if not self.is_needed:
            for node in self.fleet:
                node.serving = node.variants - self._record(node.info.name).unloaded
            return
        nodes = [node for node in self.fleet if not node.draining]
        found = {node.info.name: self._stays(node) for node in nodes}
        covered = frozenset[str]().union(*found.values())
        for variant in frozenset[str]().union(*(node.variants for node in nodes)) - covered:
            host = self._host(variant, nodes)
            if host is not None:
                found[host] |= {variant}
        for node in nodes:
            record = self._record(node.info.name)
            if not self._resident(node) and record.order is None:
                # With nothing on its device, what comes first decides.
                found[node.info.name] = node.variants - record.unloaded
            node.serving = found[node.info.name]

    def _host(self, variant: str, nodes: Sequence[NodeBacklog]) -> str | None:
        """Return the node that serves what none has on its device; None: operators want none to.

        The one that is loading it, else always the same one.
        """
        able = [
            node
            for node in nodes
            if variant in node.variants - self._record(node.info.name).unloaded
        ]
        loading = [node for node in able if self._loads(node) == variant]
        best = min(loading or able, key=lambda node: node.info.name, default=None)
        return None if best is None else best.info.name

    def _loads(self, node: NodeBacklog) -> str:
        order = self._record(node.info.name).order
        return "" if order is None else order.load

    def _stays(self, node: NodeBacklog) -> Variants:
        """Return what is on a node's device and is not to leave it."""
        record = self._record(node.info.name)
        return self._resident(node) - record.leaving - record.unloaded

    def _target(self, node: NodeBacklog) -> Variants:
        target = self._record(node.info.name).target
        return self._resident(node) if target is None else target

    def _resident(self, node: NodeBacklog) -> Variants:
        resident = self._record(node.info.name).resident
        if resident is None or not node.info.is_crowded:
            return node.variants
        return resident & node.variants

    def _fits(self, node: NodeBacklog, target: Variants) -> bool:
        weights = _by_variant(node, "weights_bytes")
        return sum(weights.get(name, 0.0) for name in target) <= node.info.weights_budget

    def _record(self, node: str) -> _Record:
        record = self._records.get(node)
        if record is None:
            record = self._records[node] = _Record()
        return record


def _by_variant(node: NodeBacklog, what: str) -> dict[str, float]:
    """Return bytes of weights or seconds of loading by variant, of those that are known."""
    info = node.info
    values: dict[str, Callable[[], tuple[float, ...]]] = {
        "weights_bytes": lambda: info.weights_bytes,
        "load_s": lambda: info.load_s,
    }
    found = values[what]()
    return {v.name: value for v, value in zip(info.variants, found, strict=False)}
