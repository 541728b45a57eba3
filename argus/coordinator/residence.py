"""Which variants live nodes hold: plans, made in a thread of their own, orders, operators."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from argus.clock import Clock
from argus.control.offers import Offer
from argus.control.placing import PLANNED_FOR, MoveOrder, Placer
from argus.control.planner import Plan, Planner, Reason, State
from argus.coordinator.membership import Member, Membership
from argus.errors import FailedPreconditionError, NotFoundError, UnavailableError
from argus.v1 import cluster_pb2

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often it is asked whether a plan is due."""
ORDERS_S = 0.2
"""How often nodes are looked at for orders."""
POLL_S = 0.05

Answer = asyncio.Future[cluster_pb2.VariantsMoved]


@dataclass(slots=True)
class _Pending:
    member: Member
    number: int
    answer: Answer


class Residence:
    """Keeps what nodes serve in step with what they hold, and moves variants.

    Nothing here stops rows: see `argus.control.placing`. Must be used in one event loop.

    Args:
        clock: where the time comes from.
        membership: the nodes.
        plans: whether residency is planned; else only operators move variants.
    """

    def __init__(self, clock: Clock, membership: Membership, plans: bool) -> None:
        self._clock = clock
        self._membership = membership
        self.placer = Placer(membership.fleet, plans)
        self.plan: Plan | None = None
        """The last one; None before the first, or where nothing needs one."""
        self._planner = Planner(PLANNED_FOR)
        self._planning: asyncio.Task[None] | None = None
        self._look_at_s = self._orders_at_s = 0.0
        self._pending: dict[str, _Pending] = {}
        self._orders = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="argus-planner")

    # -- what happens ---------------------------------------------------------------------------

    def note(self, offers: Sequence[Offer]) -> None:
        """Count a request, accepted or not."""
        self.placer.note(tuple(offers), self._clock.now())

    def joined(self, member: Member) -> None:
        """Note a new member; one of that name may have been there before."""
        self._fail(member.name)
        self.placer.joined(member.name)

    def beat(self, member: Member, heartbeat: cluster_pb2.Heartbeat) -> None:
        """Take in what a node has on its device."""
        if member.info.is_crowded and member.name not in self._pending:
            self.placer.seen(member.name, heartbeat.resident)

    def moved(self, member: Member, moved: cluster_pb2.VariantsMoved) -> None:
        """Take in a node's answer to an order; one that nobody waits for is ignored."""
        pending = self._pending.get(member.name)
        if pending is None or pending.member is not member or pending.number != moved.order:
            return
        del self._pending[member.name]
        now_s = self._clock.now()
        self.placer.ended(member.name, moved.resident, bool(moved.refusal), now_s)
        if moved.refusal:
            log.warning("node %s moved nothing: %s", member.name, moved.refusal)
        else:
            held = ", ".join(sorted(moved.resident)) or "nothing"
            log.info("node %s holds %s after %.2f s", member.name, held, moved.seconds)
        if not pending.answer.done():
            pending.answer.set_result(moved)

    def check(self) -> None:
        """Do what is due; to be called regularly."""
        for name, pending in list(self._pending.items()):
            if not self._membership.is_member(pending.member):
                self._fail(name)
        now_s = self._clock.now()
        if now_s >= self._look_at_s and self._planning is None:
            self._look_at_s = now_s + LOOK_S
            state = self.placer.state(now_s)
            reason = None if state is None else self._planner.due(self.plan, state, now_s)
            if state is not None and reason is not None:
                self._planning = asyncio.create_task(self._make_plan(state, now_s, reason))
        if now_s >= self._orders_at_s:
            self._orders_at_s = now_s + ORDERS_S
            for order in self.placer.orders(now_s):
                self._send(order)

    async def stop(self) -> None:
        """End planning."""
        if self._planning is not None:
            self._planning.cancel()
            await asyncio.wait([self._planning])
        self._thread.shutdown(wait=False, cancel_futures=True)

    # -- operators ------------------------------------------------------------------------------

    async def load(self, node: str, variant: str) -> cluster_pb2.VariantsMoved:
        """Bring a variant to a node's device; idle ones make room.

        What was sent is carried out even if nobody waits for it any more.

        Raises:
            NotFoundError: there is no such node, or it does not have the variant.
            FailedPreconditionError: it does not fit, or another order is being carried out.
            UnavailableError: the node left.
        """
        member = self._member(node, variant)
        self._check_free(member)
        order = self.placer.ordered(MoveOrder(node, variant, ()))
        answer = self._send(order, make_room=True)
        answer.add_done_callback(
            lambda done: self.placer.allow(node, variant) if _refusal(done) == "" else None
        )
        return await _carried_out(node, answer)

    async def unload(self, node: str, variant: str, park: bool) -> cluster_pb2.VariantsMoved:
        """Take a variant off a node's device when its rows there are done.

        Until then whoever waits for it may think better of it; what was sent is carried out.

        Args:
            node: name of the node.
            variant: name of the variant.
            park: whether it may stay in host memory.

        Raises:
            NotFoundError: there is no such node, or it does not have the variant.
            FailedPreconditionError: it is pinned, or another order is being carried out.
            UnavailableError: the node left.
        """
        member = self._member(node, variant)
        if variant in member.info.pinned:
            raise FailedPreconditionError(f"variant {variant!r} is pinned on node {node}")
        self._check_free(member)
        was = variant in self.placer.unloaded(node)
        self.placer.unload(node, variant)
        try:
            while member.backlog.rows_of(variant):
                await asyncio.sleep(POLL_S)
                if not self._membership.is_member(member):
                    raise UnavailableError(f"node {node} left")
            self._check_free(member)
        except BaseException:
            # Nothing was sent yet, so nothing is left behind, whatever ended this.
            if not was:
                self.placer.allow(node, variant)
            raise
        order = self.placer.ordered(MoveOrder(node, "", (variant,)))
        answer = self._send(order, drop=not park)
        answer.add_done_callback(
            lambda done: self.placer.allow(node, variant) if _refusal(done) and not was else None
        )
        return await _carried_out(node, answer)

    def _member(self, node: str, variant: str) -> Member:
        member = self._membership.get(node)
        if member is None:
            raise NotFoundError("node", node, [m.name for m in self._membership.members])
        if variant not in member.backlog.variants:
            raise NotFoundError("variant", variant, sorted(member.backlog.variants))
        return member

    def _check_free(self, member: Member) -> None:
        if member.name in self._pending:
            raise FailedPreconditionError(f"node {member.name} is carrying out another order")

    # -- orders ---------------------------------------------------------------------------------

    def _send(self, order: MoveOrder, make_room: bool = False, drop: bool = False) -> Answer:
        """Send an order; the future has the node's answer."""
        answer: Answer = asyncio.get_running_loop().create_future()
        # Those of plans nobody waits for; what they fail with is logged where it is set.
        answer.add_done_callback(lambda done: done.exception())
        member = self._membership.get(order.node)
        assert member is not None, "orders are for nodes of the fleet, which are members"
        self._orders += 1
        self._pending[order.node] = _Pending(member, self._orders, answer)
        move = cluster_pb2.MoveVariants(
            order=self._orders,
            load=order.load,
            park=order.park,
            make_room=make_room,
            drop=drop,
        )
        member.send(cluster_pb2.JoinResponse(move=move))
        return answer

    def _fail(self, node: str) -> None:
        """End what waits for a node that left."""
        pending = self._pending.pop(node, None)
        if pending is not None and not pending.answer.done():
            pending.answer.set_exception(UnavailableError(f"node {node} left"))

    # -- plans ----------------------------------------------------------------------------------

    async def _make_plan(self, state: State, now_s: float, reason: Reason) -> None:
        try:
            loop = asyncio.get_running_loop()
            self.plan = await loop.run_in_executor(
                self._thread, self._planner.plan, state, now_s, reason
            )
            self.placer.aim(self.plan)
        except Exception:
            log.exception("no plan could be made; the last one holds")
            self._look_at_s = now_s + PLANNED_FOR.period_s
        finally:
            self._planning = None


def _refusal(answer: Answer) -> str | None:
    """Return in which words a node refused an order; empty: it did not; None: it never answered."""
    return None if answer.exception() is not None else answer.result().refusal


async def _carried_out(node: str, answer: Answer) -> cluster_pb2.VariantsMoved:
    """Wait for a node's answer; one who gives up waiting takes nothing back.

    Raises:
        FailedPreconditionError: the node refused.
        UnavailableError: the node left.
    """
    moved = await asyncio.shield(answer)
    if moved.refusal:
        raise FailedPreconditionError(f"node {node}: {moved.refusal}")
    return moved
