"""Health whose watchers hold up nobody."""

from __future__ import annotations

import asyncio
from typing import Any

from grpc_health.v1 import health, health_pb2

SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class WatchableHealth(health.aio.HealthServicer):  # type: ignore[misc, name-defined]
    """Sets what it says at once, however slowly those who watch it read.

    The base writes to a watcher with a lock in hand that setting needs, too (grpcio-health-checking
    1.85): a caller that opens Watch and takes no bytes would stop whoever says how a service is,
    other watchers, and the stopping of the server. Here each watcher is only woken.
    """

    def __init__(self) -> None:
        super().__init__()
        self._changed = asyncio.Event()
        """Of the present state; set, and replaced by another one, when that has changed."""

    async def Watch(  # noqa: N802 - gRPC's name
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> None:
        """Tell how a service is, and again whenever that has changed; in between may be missed."""
        told = None
        while True:
            changed = self._changed
            status = self._server_status.get(request.service, SERVICE_UNKNOWN)
            if status != told:
                await context.write(health_pb2.HealthCheckResponse(status=status))
                told = status
            await changed.wait()

    async def _set(self, service: str, status: int) -> None:
        """Set a status and wake the watchers; the base calls it in all ways of setting one."""
        if self._server_status.get(service) == status:
            return
        self._server_status[service] = status
        self._changed.set()
        self._changed = asyncio.Event()
