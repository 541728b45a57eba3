"""Variants are moved on live nodes: by operators and by the plan, and never under a row."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, replace
from typing import Any

import grpc
import pytest

from argus.control.offers import Offer, make_offers
from argus.control.predictor import LevelMeans
from argus.errors import FailedPreconditionError, NotFoundError, UnavailableError
from argus.rpc.status import from_rpc_error
from argus.types import ImageRequest, NodeInfo, StepCosts, VariantCosts
from argus.v1 import admin_pb2, cluster_pb2
from tests.unit.coordinator.bench import BASE, COSTS, info
from tests.unit.coordinator.polling import eventually
from tests.unit.coordinator.scripted import Coordinated, ScriptedNode, coordinated

SMALL = replace(BASE, name="small")
SMALL_COSTS = VariantCosts(StepCosts((2, 4, 8), (0.02, 0.03, 0.05)), 0.0, 0.1)
NAMES = ("base", "small")


@dataclass
class CrowdedNode(ScriptedNode):
    """Has two variants and room for one."""

    resident: tuple[str, ...] = ("base",)
    pinned: tuple[str, ...] = ()
    refusal: str = ""
    answers: bool = True

    @property
    def info(self) -> NodeInfo:
        return replace(
            info(self.name, self.slots),
            variants=(BASE, SMALL),
            costs=(COSTS, SMALL_COSTS),
            weights_budget=10,
            weights_bytes=(8, 4),
            load_s=(0.1, 0.1),
            pinned=self.pinned,
        )

    def move(self, asked: cluster_pb2.MoveVariants) -> None:
        if not self.answers:
            return
        if self.refusal:
            refused = cluster_pb2.VariantsMoved(
                order=asked.order, resident=self.resident, refusal=self.refusal
            )
            self.write(moved=refused)
            return
        if asked.make_room:
            self.resident = ()
        super().move(asked)


async def load(cluster: Coordinated, node: str, variant: str) -> Any:
    request = admin_pb2.LoadVariantRequest(node=node, variant=variant)
    try:
        return await cluster.admin.LoadVariant(request)
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error


async def unload(cluster: Coordinated, node: str, variant: str, park: bool = False) -> Any:
    request = admin_pb2.UnloadVariantRequest(node=node, variant=variant, park=park)
    try:
        return await cluster.admin.UnloadVariant(request)
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error


@contextlib.asynccontextmanager
async def pair(
    first: CrowdedNode, second: CrowdedNode, **settings: Any
) -> AsyncIterator[Coordinated]:
    async with (
        coordinated(**settings) as cluster,
        first.joined(cluster.address),
        second.joined(cluster.address),
    ):
        yield cluster


async def test_where_all_fit_there_is_no_plan_to_show() -> None:
    node = ScriptedNode()
    async with coordinated() as cluster, node.joined(cluster.address):
        await cluster.generate("r", deadline_s=30.0)
        assert not (await cluster.status()).HasField("residency")
        assert cluster.coordinator._residence.plan is None


async def test_rows_go_where_their_variant_is() -> None:
    one, two = CrowdedNode("n1"), CrowdedNode("n2", resident=("small",))
    async with pair(one, two) as cluster:
        await eventually(lambda: _serves(cluster, {"n1": {"base"}, "n2": {"small"}}))
        for i in range(4):
            await cluster.generate(f"r{i}", variant=NAMES[i % 2])
        assert {work.variant for work in one.works} == {"base"}
        assert {work.variant for work in two.works} == {"small"}


async def test_what_no_node_has_on_its_device_is_made_all_the_same() -> None:
    async with pair(CrowdedNode("n1"), CrowdedNode("n2")) as cluster:
        await eventually(lambda: _serves(cluster, {"n1": {"base", "small"}, "n2": {"base"}}))
        events = await cluster.generate("r", variant="small")
        assert events[-1].image.variant == "small"


async def test_an_operator_loads_and_unloads() -> None:
    one, two = CrowdedNode("n1"), CrowdedNode("n2")
    async with pair(one, two) as cluster:
        loaded = await load(cluster, "n2", "small")
        assert tuple(loaded.resident) == ("small",)
        assert loaded.seconds == 0.5
        await eventually(lambda: _serves(cluster, {"n1": {"base"}, "n2": {"small"}}))
        assert tuple((await unload(cluster, "n1", "base")).resident) == ()
        assert [(m.load, tuple(m.park), m.drop) for m in one.moves] == [("", ("base",), True)]
        # Nobody has base on a device now, and n1 is not to have it: n2 brings it in when asked.
        await eventually(lambda: _serves(cluster, {"n1": {"small"}, "n2": {"base", "small"}}))
        await unload(cluster, "n2", "base", park=True)
        with pytest.raises(UnavailableError):
            await cluster.generate("r", variant="base")
        await load(cluster, "n1", "base")
        assert (await cluster.generate("again", variant="base"))[-1].image.node == "n1"


async def test_unloading_waits_for_rows_and_sends_no_more() -> None:
    one, two = CrowdedNode("n1", hold_at=3), CrowdedNode("n2", resident=("small",))
    async with pair(one, two) as cluster:
        await eventually(lambda: _serves(cluster, {"n1": {"base"}, "n2": {"small"}}))
        row = asyncio.create_task(cluster.generate("held", variant="base", steps=5))
        await asyncio.wait_for(one.reached_hold.wait(), 10)
        unloading = asyncio.create_task(unload(cluster, "n1", "base"))
        await eventually(lambda: _serves(cluster, {"n1": set(), "n2": {"base", "small"}}))
        assert not one.moves
        assert not one.cancels
        one.say(one.works[0], done=cluster_pb2.WorkDone(data=b"png", running_s=1.0, max_lanes=2))
        assert (await row)[-1].image.node == "n1"
        await asyncio.wait_for(unloading, 10)
        assert len(one.moves) == 1


async def test_what_cannot_be_done_is_refused_clearly() -> None:
    one = CrowdedNode("n1", pinned=("base",), refusal="variant 'small' takes 4 bytes, 2 more")
    async with pair(one, CrowdedNode("n2", answers=False)) as cluster:
        with pytest.raises(NotFoundError, match="node"):
            await load(cluster, "n3", "small")
        with pytest.raises(NotFoundError, match="variant"):
            await load(cluster, "n1", "large")
        with pytest.raises(FailedPreconditionError, match="takes 4 bytes"):
            await load(cluster, "n1", "small")
        with pytest.raises(FailedPreconditionError, match="pinned"):
            await unload(cluster, "n1", "base")
        with pytest.raises(FailedPreconditionError, match="takes 4 bytes"):
            await unload(cluster, "n1", "small")
        assert not (await cluster.status()).nodes[0].unloaded
        silent = asyncio.create_task(load(cluster, "n2", "small"))
        await eventually(lambda: _pending(cluster, "n2"))
        with pytest.raises(FailedPreconditionError, match="another order"):
            await load(cluster, "n2", "base")
        silent.cancel()


async def test_an_operator_who_leaves_before_rows_are_done_has_unloaded_nothing() -> None:
    node = CrowdedNode("n1", hold_at=3)
    async with coordinated() as cluster, node.joined(cluster.address):
        await eventually(lambda: _serves(cluster, {"n1": {"base", "small"}}))
        row = asyncio.create_task(cluster.generate("held", variant="base", steps=5))
        await asyncio.wait_for(node.reached_hold.wait(), 10)
        unloading = asyncio.create_task(unload(cluster, "n1", "base"))
        await eventually(lambda: _unloaded(cluster, "n1") == {"base"})
        unloading.cancel()
        await eventually(lambda: not _unloaded(cluster, "n1"))
        assert _serves(cluster, {"n1": {"base", "small"}})
        node.say(node.works[0], done=cluster_pb2.WorkDone(data=b"png", running_s=1, max_lanes=2))
        await row
        assert not node.moves


async def test_a_node_that_leaves_before_its_rows_are_done_has_unloaded_nothing() -> None:
    node = CrowdedNode("n1", hold_at=3)
    async with coordinated(reattach_grace_s=0.0) as cluster, node.joined(cluster.address):
        await eventually(lambda: _serves(cluster, {"n1": {"base", "small"}}))
        row = asyncio.create_task(cluster.generate("held", variant="base", steps=5))
        await asyncio.wait_for(node.reached_hold.wait(), 10)
        unloading = asyncio.create_task(unload(cluster, "n1", "base"))
        await eventually(lambda: _unloaded(cluster, "n1") == {"base"})
        node.cut()
        with pytest.raises(UnavailableError, match="left"):
            await asyncio.wait_for(unloading, 10)
        assert not _unloaded(cluster, "n1")
        row.cancel()
        await asyncio.wait([row])


@pytest.mark.parametrize("refusal", ["", "variant 'base' takes 8 bytes"])
async def test_what_an_operator_ordered_holds_though_he_did_not_wait(refusal: str) -> None:
    node = CrowdedNode("n1")
    async with coordinated() as cluster, node.joined(cluster.address):
        await eventually(lambda: _serves(cluster, {"n1": {"base", "small"}}))

        residence = cluster.coordinator._residence

        async def order(asked: Coroutine[Any, Any, Any]) -> None:
            """Let a node answer an order that nobody waits for any more."""
            node.answers, orders = False, len(node.moves)
            asking = asyncio.create_task(asked)
            await eventually(lambda: len(node.moves) > orders)
            asking.cancel()
            await asyncio.wait([asking])
            node.answers, node.refusal = True, refusal
            node.move(node.moves[-1])
            await eventually(lambda: not _pending(cluster, "n1"))
            node.refusal = ""

        await order(residence.unload("n1", "base", park=False))
        await eventually(lambda: _unloaded(cluster, "n1") == (set() if refusal else {"base"}))
        if refusal:
            await unload(cluster, "n1", "base")
        await order(residence.load("n1", "base"))
        await eventually(lambda: _unloaded(cluster, "n1") == ({"base"} if refusal else set()))


async def test_an_order_ends_when_its_node_leaves() -> None:
    node = CrowdedNode("n1", answers=False)
    async with coordinated() as cluster, node.joined(cluster.address):
        loading = asyncio.create_task(load(cluster, "n1", "small"))
        await eventually(lambda: _pending(cluster, "n1"))
        node.cut()
        with pytest.raises(UnavailableError, match="left"):
            await asyncio.wait_for(loading, 10)


async def test_the_plan_moves_variants_when_demand_turns() -> None:
    """Only the small one is asked for; of three nodes that hold base, not all are left so."""
    nodes = [CrowdedNode(f"n{i}", slots=1) for i in range(2)]
    nodes.append(CrowdedNode("n2", slots=1, resident=("small",)))
    async with coordinated() as cluster, contextlib.AsyncExitStack() as stack:
        for node in nodes:
            await stack.enter_async_context(node.joined(cluster.address))
        residence = cluster.coordinator._residence
        await eventually(lambda: all(n.serving for n in residence.placer.fleet))
        # Demand that has been seen for long enough, far beyond what one node can make.
        offers = _offers(cluster, "small")
        now_s = residence._clock.now()
        for i in range(4000):
            residence.placer.note(offers, now_s - 40.0 + i / 100)
        # The solver is imported by then, in its own thread.
        for _ in range(3):
            with contextlib.suppress(pytest.fail.Exception):
                await eventually(lambda: residence.plan is not None)
        assert residence.plan is not None
        assert residence.plan.targets
        # Two plans in a row must want it; the second is not waited for here.
        residence.placer.aim(residence.plan)
        await eventually(lambda: sum("small" in n.resident for n in nodes) >= 2)
        assert sum("base" in n.resident for n in nodes) >= 1
        await eventually(lambda: residence.placer.moves >= 1)
        shown = (await cluster.status()).residency
        assert shown.moves == residence.placer.moves
        assert (shown.solved, shown.rate_per_s) == (
            residence.plan.solved.value,
            residence.plan.rate_per_s,
        )
        families = [f async for f in cluster.coordinator.metrics.families()]
        values = {f.name: f.samples[0].value for f in families if f.samples}
        assert values["argus_variant_moves"] == residence.placer.moves
        assert values["argus_residency_plan_age_seconds"] >= 0.0


def _offers(cluster: Coordinated, variant: str) -> tuple[Offer, ...]:
    catalog = cluster.coordinator._dispatcher._catalog
    request = ImageRequest(request_id="x", prompt="p", variant=variant, deadline_s=5.0)
    return make_offers(request, catalog.ladder, catalog.variants, LevelMeans())


def _serves(cluster: Coordinated, want: dict[str, set[str]]) -> bool:
    fleet = cluster.coordinator._membership.fleet
    return {node.info.name: set(node.serving) for node in fleet} == want


def _pending(cluster: Coordinated, node: str) -> bool:
    return node in cluster.coordinator._residence._pending


def _unloaded(cluster: Coordinated, node: str) -> set[str]:
    return set(cluster.coordinator._residence.placer.unloaded(node))
