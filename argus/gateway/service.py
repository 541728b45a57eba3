"""The gateway as a whole: built, served, drained."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from argus.auth.key_file import parse_keys
from argus.auth.watched import WatchedFile
from argus.client import AsyncClient, Retries
from argus.clock import Clock, MonotonicClock
from argus.config import Config, GatewayConfig
from argus.errors import ArgusError, ConfigError, InvalidArgumentError
from argus.gateway import pages
from argus.gateway.access import Access, Keys
from argus.gateway.cluster import Cluster
from argus.gateway.images import Images
from argus.gateway.making import Room
from argus.gateway.metrics import GatewayMetrics, Measured
from argus.gateway.openapi import document
from argus.gateway.problems import on_argus_error, on_bug, on_http_error
from argus.gateway.traced import Traced
from argus.gateway.views import Views
from argus.metrics.exposition import exposed
from argus.rpc.address import is_loopback, parse_address, parse_addresses
from argus.rpc.dial import Dialling, dialling
from argus.rpc.tls import KeyPair
from argus.tracing.opening import open_tracer
from argus.tracing.spans import OFF, Tracer
from argus.web.server import WebServer, listen

log = logging.getLogger(__name__)

SETTING = "gateway.bind"
DEFAULT_BIND = "127.0.0.1:7421"
NOTHING_SHOWN = Dialling()
RETRIES = Retries(attempts=4, when_full=False)
"""A client hears at once that there is no room; a coordinator that is away may be back soon."""


async def serve(config: Config, stop: asyncio.Event, on_ready: Callable[[str], None]) -> None:
    """Run the gateway until `stop` is set, then let what is under way end, and return.

    Args:
        config: settings; the gateway's section is used.
        stop: set to end.
        on_ready: called with HOST:PORT once the port is bound; the coordinator may be missing.

    Raises:
        ConfigError: the address or a file of keys or certificates cannot be used, or other machines
            could reach the gateway unasked or unencrypted.
    """
    check_exposure(config)
    clock = MonotonicClock()
    tracer = open_tracer(config.tracing, "argus-gateway")
    gateway = Gateway(
        config.gateway, clock, _dialling(config), _keys(config, clock), _pair(config), tracer
    )
    try:
        on_ready(await gateway.start())
        await stop.wait()
    finally:
        await gateway.stop()
        await asyncio.to_thread(tracer.close)


def check_exposure(config: Config) -> None:
    """Raise where other machines could reach the gateway unasked or unencrypted.

    Raises:
        ConfigError: names gateway.bind and what is missing.
    """
    gateway, missing = config.gateway, []
    host, _ = parse_address(gateway.bind or DEFAULT_BIND, SETTING)
    if gateway.insecure or is_loopback(host):
        return
    if not gateway.tls:
        missing.append("TLS (gateway.tls = true, tls.certificate and tls.key)")
    if not config.auth.keys:
        missing.append("keys (auth.keys)")
    if missing:
        raise ConfigError(
            f"{SETTING}: other machines can reach {gateway.bind}, so it needs "
            f"{' and '.join(missing)}; where all of them are trusted, or a proxy sees to it: "
            "gateway.insecure = true"
        )


def _dialling(config: Config) -> Dialling:
    found = dialling(config.tls, config.auth)
    try:
        for address in parse_addresses(config.gateway.coordinator, "gateway.coordinator"):
            found.check(address)
    except InvalidArgumentError as error:
        raise ConfigError(f"auth.{error.field}: {error.description} (tls.insecure)") from error
    return found


def _keys(config: Config, clock: Clock) -> Keys | None:
    if not config.auth.keys:
        return None
    watched = WatchedFile(Path(config.auth.keys), parse_keys, "auth.keys", clock.now())
    return lambda: watched.current(clock.now())


def _pair(config: Config) -> KeyPair | None:
    if not config.gateway.tls:
        return None
    if not config.tls.certificate:
        raise ConfigError("gateway.tls: needs tls.certificate and tls.key")
    return KeyPair(Path(config.tls.certificate), Path(config.tls.key))


class Gateway:
    """The parts, wired. Must be made inside the event loop that runs it.

    Args:
        config: settings.
        clock: where the time comes from.
        shown: how the coordinator is dialled.
        keys: returns the keys that callers must show one of; None: they are not asked.
        pair: for HTTPS; None: plain HTTP is spoken.
        tracer: traces requests for images.

    Raises:
        ConfigError: the certificate cannot be used.
    """

    def __init__(
        self,
        config: GatewayConfig,
        clock: Clock,
        shown: Dialling = NOTHING_SHOWN,
        keys: Keys | None = None,
        pair: KeyPair | None = None,
        tracer: Tracer = OFF,
    ) -> None:
        self._config = config
        self._tracer = tracer
        self._keys = keys
        self._client = AsyncClient(
            config.coordinator,
            retries=RETRIES,
            tls=shown.tls,
            api_key=shown.api_key,
            insecure=shown.insecure,
            tracer=tracer,
        )
        self._room = Room(config.max_in_flight, clock)
        self.cluster = Cluster(self._client, clock, config.poll_s)
        self._server = WebServer(
            self._app(),
            max_connections=config.max_connections,
            grace_s=config.drain_grace_s,
            pair=pair,
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
                *([Middleware(Traced, tracer=self._tracer)] if self._tracer.on else []),
                Middleware(Measured, metrics=metrics),
                Middleware(pages.Guarded),
                Middleware(Access, keys=self._keys),
            ],
            exception_handlers={
                ArgusError: on_argus_error,
                HTTPException: on_http_error,
                Exception: on_bug,
            },
        )
