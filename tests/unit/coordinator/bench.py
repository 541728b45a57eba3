"""A coordinator without network or time: the parts below the services, on a manual clock."""

from __future__ import annotations

import asyncio
from typing import Any

from argus.clock import ManualClock
from argus.config import CacheConfig, CoordinatorConfig
from argus.control import policies
from argus.control.levels import LevelProfile
from argus.control.predictor import LevelMeans, QualityPredictor
from argus.coordinator.adoption import Adoption
from argus.coordinator.catalog import Catalog
from argus.coordinator.dispatch import Dispatcher
from argus.coordinator.membership import Member, Membership
from argus.coordinator.reports import Reports
from argus.coordinator.reuse import Reuse
from argus.coordinator.subscription import Subscription
from argus.coordinator.watchdog import Watchdog
from argus.rpc.convert_cluster import node_info_to_proto
from argus.types import ImageRequest, Level, NodeInfo, StepCosts, VariantCosts, VariantInfo
from argus.v1 import cluster_pb2, image_pb2

BASE = VariantInfo(
    name="base",
    pipeline="StableDiffusionPipeline",
    width=64,
    height=64,
    size_multiple=8,
    max_size=128,
    samplers=("ddim", "euler"),
    default_sampler="ddim",
    default_steps=10,
    default_guidance=5.0,
)
COSTS = VariantCosts(StepCosts((2, 4, 8), (0.10, 0.15, 0.25)), text_encode_s=0.0, decode_s=0.1)
"""One guided row alone: 10 · 0.10 + 0.1 = 1.1 s."""
PROFILE = LevelProfile(
    "base", (Level("base-10", "base", 1.0, 1.0), Level("base-5", "base", 0.5, 0.9))
)


SLOW_COSTS = VariantCosts(StepCosts((2, 4, 8), (12.0, 18.0, 30.0)), 0.0, 0.1)
"""One guided row alone: 10 · 12 + 0.1 = 120.1 s."""


def info(
    name: str = "n1", slots: int = 4, variant: VariantInfo = BASE, costs: VariantCosts = COSTS
) -> NodeInfo:
    return NodeInfo(
        name=name,
        device="cpu",
        device_name="scripted",
        memory_bytes=2**30,
        slots=slots,
        max_lanes=8,
        argus_version="0",
        variants=(variant,),
        costs=(costs,),
    )


class Bench:
    """Everything between admission and the nodes' outboxes."""

    def __init__(
        self,
        profile: LevelProfile | None = PROFILE,
        cache: CacheConfig | None = None,
        predictor: QualityPredictor | None = None,
        **settings: Any,
    ) -> None:
        self.clock = ManualClock(100.0)
        self.config = CoordinatorConfig(**settings)
        self.membership = Membership(self.clock, self.config.lease_s)
        self.catalog = Catalog(profile)
        self.reuse = Reuse(cache, self.membership, self.clock) if cache else None
        self.dispatcher = Dispatcher(
            self.clock,
            self.config,
            self.membership,
            self.catalog,
            predictor or LevelMeans(),
            policies.make(self.config.policy),
            self.reuse,
        )
        self.adoption = Adoption(
            self.clock,
            self.config,
            self.dispatcher,
            self.catalog,
            predictor or LevelMeans(),
            "this",
        )
        self.reports = Reports(self.clock, self.dispatcher, self.reuse)
        self.watchdog = Watchdog(
            self.clock, self.membership, self.dispatcher, self.config.node_wait_s
        )

    @property
    def counters(self) -> dict[str, int]:
        c = self.dispatcher.counters
        return {
            "accepted": c.accepted,
            "answered": c.answered,
            "on_time": c.on_time,
            "refused": c.refused,
            "cancelled": c.cancelled,
            "failed": c.failed,
            "replayed": c.replayed,
        }

    def join(
        self,
        name: str = "n1",
        slots: int = 4,
        costs: VariantCosts = COSTS,
        variant: VariantInfo = BASE,
    ) -> Member:
        node = info(name, slots, variant, costs)
        self.catalog.learn(node, self.membership.holds)
        member = self.membership.join(node, node_info_to_proto(node))
        self.dispatcher.giving.pump()
        return member

    def rejoin(self, name: str, *held: cluster_pb2.HeldRow) -> tuple[Member, list[str]]:
        """Let a node join that brings rows along; return it, and the requests it is to drop."""
        node = info(name)
        self.catalog.learn(node, self.membership.holds)
        member = self.membership.join(node, node_info_to_proto(node))
        dropped = self.adoption.take(member, held)
        self.dispatcher.giving.pump()
        return member, [row.request_id for row in dropped]

    def submit(self, request_id: str = "r", **fields: Any) -> Subscription:
        request = ImageRequest(request_id=request_id, prompt="a red circle", **fields)
        return self.dispatcher.submit(request)

    def report(self, member: Member, work: cluster_pb2.Work, **event: Any) -> None:
        self.reports.take(
            member,
            cluster_pb2.WorkEvent(request_id=work.request_id, attempt=work.attempt, **event),
        )

    def start(self, member: Member, work: cluster_pb2.Work) -> None:
        self.report(member, work, started=cluster_pb2.WorkStarted())

    def done(self, member: Member, work: cluster_pb2.Work, data: bytes = b"png") -> None:
        self.report(member, work, done=cluster_pb2.WorkDone(data=data, running_s=1.0, max_lanes=2))

    def fail(self, member: Member, work: cluster_pb2.Work, reason: Any, message: str = "") -> None:
        failed = cluster_pb2.WorkFailed(reason=reason, message=message)
        self.report(member, work, failed=failed)

    def beat_all(self) -> None:
        for member in self.membership.members:
            member.beat(cluster_pb2.Heartbeat(), self.clock.now())

    def pass_time(self, seconds: float) -> None:
        """Let time pass with every node alive."""
        self.clock.advance(seconds)
        self.beat_all()
        self.watchdog.check()


async def sent(member: Member) -> list[cluster_pb2.JoinResponse | None]:
    """Return the messages that wait for a node."""
    messages = []
    while not member.outbox_empty:
        messages.append(await member.next_message())
    return messages


async def works(member: Member) -> list[cluster_pb2.Work]:
    return [m.work for m in await sent(member) if m is not None and m.HasField("work")]


async def one_work(member: Member) -> cluster_pb2.Work:
    (work,) = await works(member)
    return work


async def follow(subscription: Subscription) -> list[image_pb2.GenerateResponse]:
    """Return all events of a request that ended."""
    async with asyncio.timeout(1.0):
        return [event async for event in subscription]


def kinds(events: list[image_pb2.GenerateResponse]) -> list[str | None]:
    return [event.WhichOneof("event") for event in events]
