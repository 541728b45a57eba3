"""The server every Argus process builds: limits, error mapping, health, reflection, clean stop."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from argus.errors import ConfigError
from argus.rpc.address import format_address, parse_address
from argus.rpc.channel import KEEPALIVE_S, server_options
from argus.rpc.gate import Gate
from argus.rpc.gated_health import GatedHealth
from argus.rpc.guard import Guard
from argus.rpc.interceptors import ErrorInterceptor
from argus.rpc.tls import ServerCertificates
from argus.rpc.watchable_health import WatchableHealth

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
WHOLE_SERVER = ""


class RpcServer:
    """A grpc.aio server with health for each service and reflection.

    Add services, then start; a service is NOT_SERVING until `set_serving` says otherwise. Must be
    made inside the event loop that runs it.

    Args:
        keepalive_s: how often its clients ping.
        guard: asks callers for keys; None: nobody is asked.
        gate: stands behind it, and health says when it is shut; None: whoever has a key is let
            through.
        certificates: for TLS; None: there is none.
    """

    def __init__(
        self,
        keepalive_s: float = KEEPALIVE_S,
        guard: Guard | None = None,
        gate: Gate | None = None,
        certificates: ServerCertificates | None = None,
    ) -> None:
        self._server = grpc.aio.server(
            interceptors=[ErrorInterceptor(), guard or Guard(), *([gate] if gate else [])],
            options=server_options(keepalive_s),
        )
        self._gated = gate is not None
        self._certificates = certificates
        self._health = WatchableHealth() if gate is None else GatedHealth(gate)
        self._services: list[str] = []

    def add(
        self, register: Callable[[Any, grpc.aio.Server], None], servicer: object, service: str
    ) -> None:
        """Add a service.

        Args:
            register: the generated `add_…Servicer_to_server`.
            servicer: the implementation.
            service: full name, such as `argus.v1.ImageService`.
        """
        register(servicer, self._server)
        self._services.append(service)

    async def start(self, bind: str, setting: str) -> str:
        """Listen on `HOST:PORT` and return the address in use, which matters for port 0.

        Args:
            bind: where to listen.
            setting: name of the setting that holds `bind`, for errors.

        Raises:
            ConfigError: not an address, or one that cannot be listened on.
        """
        host, port = parse_address(bind, setting)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection(
            [*self._services, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server
        )
        for service in self._services:
            await self.set_serving(service, False)
        try:
            bound = self._bind(host, port, setting)
        except ConfigError:
            await self._server.stop(None)
            raise
        await self._server.start()
        await self.set_serving(WHOLE_SERVER, not self._gated)
        return format_address(host, bound)

    def _bind(self, host: str, port: int, setting: str) -> int:
        """Listen and return the port."""
        address = format_address(host, port)
        problem = f"{setting}: cannot listen on {address}"
        # gRPC says only that binding failed, and logs why; a plain socket names the reason.
        try:
            _try_to_bind(host, port)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
            raise ConfigError(f"{problem}: {str(reason).lower()}") from error
        try:
            if self._certificates is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, self._certificates.credentials())
        except RuntimeError as error:
            raise ConfigError(f"{problem}: {error}") from error

    async def set_serving(self, service: str, serving: bool) -> None:
        """Say through `grpc.health.v1` whether a service takes requests.

        The server as a whole does from its start, unless it has a gate.
        """
        await self._health.set(service, SERVING if serving else NOT_SERVING)

    async def stop(self, grace_s: float) -> None:
        """Say NOT_SERVING, refuse new calls, and wait for the running ones.

        Args:
            grace_s: seconds after which calls still running are cancelled.
        """
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)

    async def wait_stopped(self) -> None:
        """Wait until the server has stopped."""
        await self._server.wait_for_termination()


def _try_to_bind(host: str, port: int) -> None:
    """Raise OSError where a listener on the address would fail."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
