"""The door for operators."""

from __future__ import annotations

import time

import argus
from argus.clock import Clock
from argus.config import CoordinatorConfig
from argus.coordinator.catalog import Catalog
from argus.coordinator.dispatch import Dispatcher
from argus.coordinator.leadership import Leadership
from argus.coordinator.membership import Membership
from argus.coordinator.residence import Residence
from argus.coordinator.reuse import Reuse
from argus.coordinator.shadow import Shadow
from argus.coordinator.views import (
    cache_status,
    leadership_status,
    live_variants,
    node_status,
    policy_status,
    quality_status,
    residency_status,
)
from argus.errors import FailedPreconditionError, NotFoundError
from argus.rpc.interceptors import Context
from argus.v1 import admin_pb2, admin_pb2_grpc, cluster_pb2


class AdminService(admin_pb2_grpc.AdminServiceServicer):
    """Implements argus.v1.AdminService.

    Args:
        clock: where the time comes from; now is the start.
        config: the policy's name, and how many requests may be in flight.
        dispatcher: owns the requests.
        catalog: what can be asked for.
        membership: the nodes.
        reuse: the cache; None where it is off.
        shadow: compares live pictures; None where none are.
        residence: moves variants; None where nothing does.
        leadership: of this coordinator; None where no other one stands by.
    """

    def __init__(
        self,
        clock: Clock,
        config: CoordinatorConfig,
        dispatcher: Dispatcher,
        catalog: Catalog,
        membership: Membership,
        reuse: Reuse | None = None,
        shadow: Shadow | None = None,
        residence: Residence | None = None,
        leadership: Leadership | None = None,
    ) -> None:
        self._clock = clock
        self._start_s = clock.now()
        self._config = config
        self._dispatcher = dispatcher
        self._catalog = catalog
        self._membership = membership
        self._reuse = reuse
        self._shadow = shadow
        self._residence = residence
        self._leadership = leadership

    async def GetStatus(  # noqa: N802 - gRPC's name
        self, request: admin_pb2.GetStatusRequest, context: Context
    ) -> admin_pb2.GetStatusResponse:
        """Return the whole state at this moment."""
        now_s = self._clock.now()
        counters = self._dispatcher.counters
        return admin_pb2.GetStatusResponse(
            argus_version=argus.__version__,
            uptime_s=now_s - self._start_s,
            nodes=[
                node_status(member, now_s, self._unloaded(member.name))
                for member in self._membership.members
            ],
            variants=live_variants(self._catalog, self._membership),
            levels=[
                admin_pb2.LevelStatus(
                    name=level.name,
                    variant=level.variant,
                    steps_fraction=level.steps_fraction,
                    skip_fraction=level.skip_fraction,
                    quality=level.quality,
                    answered=counters.answered_by_level[level.name],
                )
                for level in self._catalog.ladder.all
            ],
            in_flight=len(self._dispatcher.flights),
            queued=self._dispatcher.not_started,
            capacity=self._config.max_in_flight,
            counters=counters.to_proto(),
            policy=policy_status(self._config.policy, self._dispatcher.policy, now_s),
            cache=await cache_status(self._reuse) if self._reuse else None,
            quality=quality_status(self._shadow) if self._shadow else None,
            now_unix_s=time.time(),
            residency=residency_status(self._residence, now_s) if self._residence else None,
            leadership=leadership_status(self._leadership, now_s) if self._leadership else None,
        )

    async def DrainNode(  # noqa: N802 - gRPC's name
        self, request: admin_pb2.DrainNodeRequest, context: Context
    ) -> admin_pb2.DrainNodeResponse:
        """Ask one node to finish its rows, take no more, and leave."""
        member = self._membership.get(request.node)
        if member is None:
            known = [m.name for m in self._membership.members]
            raise NotFoundError("node", request.node, known)
        member.backlog.draining = True
        member.send(cluster_pb2.JoinResponse(drain=cluster_pb2.Drain()))
        return admin_pb2.DrainNodeResponse()

    async def LoadVariant(  # noqa: N802 - gRPC's name
        self, request: admin_pb2.LoadVariantRequest, context: Context
    ) -> admin_pb2.LoadVariantResponse:
        """Bring a variant to a node's device."""
        moved = await self._moves.load(request.node, request.variant)
        return admin_pb2.LoadVariantResponse(resident=moved.resident, seconds=moved.seconds)

    async def UnloadVariant(  # noqa: N802 - gRPC's name
        self, request: admin_pb2.UnloadVariantRequest, context: Context
    ) -> admin_pb2.UnloadVariantResponse:
        """Take a variant off a node's device when its rows there are done."""
        moved = await self._moves.unload(request.node, request.variant, request.park)
        return admin_pb2.UnloadVariantResponse(resident=moved.resident)

    @property
    def _moves(self) -> Residence:
        if self._residence is None:
            raise FailedPreconditionError("variants are not moved by this coordinator")
        return self._residence

    def _unloaded(self, node: str) -> frozenset[str]:
        return frozenset() if self._residence is None else self._residence.placer.unloaded(node)
