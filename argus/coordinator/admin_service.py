"""The door for operators."""

from __future__ import annotations

import argus
from argus.clock import Clock
from argus.config import CoordinatorConfig
from argus.coordinator.catalog import Catalog
from argus.coordinator.dispatch import Dispatcher
from argus.coordinator.leadership import Leadership
from argus.coordinator.membership import Membership
from argus.coordinator.reuse import Reuse
from argus.coordinator.shadow import Shadow
from argus.coordinator.views import (
    cache_status,
    leadership_status,
    live_variants,
    node_status,
    policy_status,
    quality_status,
)
from argus.errors import NotFoundError
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
            nodes=[node_status(member, now_s) for member in self._membership.members],
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
