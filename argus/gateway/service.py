"""The gateway as a whole: built, served, drained."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from argus.client import AsyncClient, Retries
from argus.clock import Clock, MonotonicClock
from argus.config import Config, GatewayConfig
from argus.errors import ArgusError
from argus.gateway import pages
from argus.gateway.access import Access
from argus.gateway.cluster import Cluster
from argus.gateway.images import Images
from argus.gateway.making import Room
from argus.gateway.metrics import GatewayMetrics, Measured
from argus.gateway.openapi import document
from argus.gateway.problems import on_argus_error, on_bug, on_http_error
from argus.gateway.views import Views
from argus.metrics.exposition import exposed
from argus.web.server import WebServer, listen

log = logging.getLogger(__name__)

SETTING = "gateway.bind"
DEFAULT_BIND = "127.0.0.1:7421"
RETRIES = Retries(attempts=4, when_full=False)
"""A client hears at once that there is no room; a coordinator that is away may be back soon."""


async def serve(config: Config, stop: asyncio.Event, on_ready: Callable[[str], None]) -> None:
    """Run the gateway until `stop` is set, then let what is under way end, and return.

    Args:
        config: settings; the gateway's section is used.
        stop: set to end.
        on_ready: called with HOST:PORT once the port is bound; the coordinator may be missing.

    Raises:
        ConfigError: the address cannot be used.
    """
    gateway = Gateway(config.gateway, MonotonicClock())
    try:
        on_ready(await gateway.start())
        await stop.wait()
    finally:
        await gateway.stop()


class Gateway:
    """The parts, wired. Must be made inside the event loop that runs it.

    Args:
        config: settings.
        clock: where the time comes from.
    """

    def __init__(self, config: GatewayConfig, clock: Clock) -> None:
        self._config = config
        self._client = AsyncClient(config.coordinator, retries=RETRIES)
        self._room = Room(config.max_in_flight, clock)
        self.cluster = Cluster(self._client, clock, config.poll_s)
        self._server = WebServer(
            self._app(),
            max_connections=config.max_connections,
            grace_s=config.drain_grace_s,
        )
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Listen, and return HOST:PORT.

        Raises:
            ConfigError: the address cannot be listened on.
        """
        listener = listen(self._config.bind, SETTING, DEFAULT_BIND)
        self._watching = asyncio.create_task(self.cluster.watch())
        return await self._server.start(listener)

    async def stop(self) -> None:
        """Refuse new images, let those under way end within the grace, and close."""
        self._room.closed = True
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        await self.cluster.end()
        await self._server.stop()
        await self._client.close()

    def _app(self) -> Starlette:
        images = Images(self._config, self._client, self.cluster, self._room)
        views = Views(self._client, self.cluster)
        metrics = GatewayMetrics(self._room)

        async def show_metrics(request: Request) -> Response:
            return exposed(metrics.registry, request.headers.get("accept", ""))

        async def show_openapi(request: Request) -> Response:
            return JSONResponse(document(self._config.max_images))

        return Starlette(
            routes=[
                Route("/v1/images/generations", images.generate, methods=["POST"]),
                Route("/v1/models", views.models),
                Route("/v1/models/{model}", views.model),
                Route("/openapi.json", show_openapi),
                Route("/healthz", views.health),
                Route("/livez", views.alive),
                Route("/metrics", show_metrics),
                Route("/api/status", views.status),
                Route("/api/events", views.changes),
                Route("/", pages.index),
                *(Route(f"/{name}", pages.static) for name in pages.TYPES),
            ],
            middleware=[
                Middleware(Measured, metrics=metrics),
                Middleware(pages.Guarded),
                Middleware(Access),
            ],
            exception_handlers={
                ArgusError: on_argus_error,
                HTTPException: on_http_error,
                Exception: on_bug,
            },
        )
