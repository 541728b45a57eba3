"""Health that knows of a gate."""

from __future__ import annotations

from typing import Any

from grpc_health.v1 import health_pb2

from argus.errors import ArgusError
from argus.rpc.gate import Gate
from argus.rpc.watchable_health import WatchableHealth

NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class GatedHealth(WatchableHealth):
    """Says NOT_SERVING of everything while a gate is shut.

    What was set before says nothing about the moment in which it is asked: a process that was
    stopped for a while would say that it serves until it has come to know what it missed.

    Args:
        gate: asked with every check.
    """

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self._gate = gate

    async def Check(  # noqa: N802 - gRPC's name
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> health_pb2.HealthCheckResponse:
        """Return how a service is at this moment."""
        answer: health_pb2.HealthCheckResponse = await super().Check(request, context)
        try:
            self._gate.check()
        except ArgusError:
            return health_pb2.HealthCheckResponse(status=NOT_SERVING)
        return answer
