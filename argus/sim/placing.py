"""Residency of simulated nodes by the control plane's own code, on the run's clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from argus.control.allocator import Allocator
from argus.control.fleet import Fleet
from argus.control.placing import PLANNED_FOR, MoveOrder, Placer
from argus.control.planner import Plan, Planner
from argus.sim.residency import Residency

LOOK_S = 0.5
"""How often nodes tell what they hold, and orders are given."""
SOLVER_S = 600.0
"""Wall seconds; a run must not depend on how busy the machine is."""


class SimPlacing:
    """Plans when it is due, gives orders, and tells the placer what became of them.

    Args:
        fleet: of the control plane.
        residency: of each true node by name.
        plans: whether anything is planned; else nodes serve what they hold.
        ordered: called with the name of a node that began to carry out an order.
    """

    def __init__(
        self,
        fleet: Fleet,
        residency: Callable[[str], Residency | None],
        plans: bool,
        ordered: Callable[[str], None],
    ) -> None:
        self.placer = Placer(fleet)
        self._fleet = fleet
        self._residency = residency
        allocator = Allocator(time_limit_s=SOLVER_S)
        self._planner = Planner(PLANNED_FOR, allocator) if plans else None
        self._ordered = ordered
        self._plan: Plan | None = None
        self._under_way: dict[str, MoveOrder] = {}

    def look(self, now_s: float) -> None:
        """Do what is due."""
        for node in self._fleet:
            residency = self._residency(node.info.name)
            if residency is not None and node.info.name not in self._under_way:
                self.placer.seen(node.info.name, residency.resident)
        if self._planner is not None:
            self._make_plan(self._planner, now_s)
        for order in self.placer.orders(now_s):
            residency = self._residency(order.node)
            if residency is None or not residency.order(order.load, order.park, now_s):
                held: Sequence[str] = () if residency is None else residency.resident
                self.placer.ended(order.node, held, True, now_s)
                continue
            self._under_way[order.node] = order
            self._ordered(order.node)
            self.moved(order.node, now_s)

    def moved(self, name: str, now_s: float) -> None:
        """Note that a node's residency may have changed."""
        order, residency = self._under_way.get(name), self._residency(name)
        if order is None or residency is None:
            return
        if not order.load or order.load in residency.resident:
            del self._under_way[name]
            self.placer.ended(name, residency.resident, False, now_s)

    def lost(self, name: str) -> None:
        """Note that a node is gone."""
        self._under_way.pop(name, None)
        self.placer.forget(name)

    def _make_plan(self, planner: Planner, now_s: float) -> None:
        state = self.placer.state(now_s)
        if state is None:
            return
        reason = planner.due(self._plan, state, now_s)
        if reason is not None:
            self._plan = planner.plan(state, now_s, reason)
            self.placer.aim(self._plan)
