"""Metrics as Prometheus reads them, and the server that a daemon shows them with."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Protocol

from prometheus_client import Metric, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from argus.metrics.families import gauge
from argus.types import OFF
from argus.web.server import WebServer, listen

log = logging.getLogger(__name__)

DEFAULT_BIND = "127.0.0.1:7422"

# A second series for each counter that says when it began; nobody here reads it.
disable_created_metrics()  # type: ignore[no-untyped-call]


Check = Callable[[], str]
"""Returns why something is not well, or nothing."""


class Source(Protocol):
    """Where metrics come from, computed when they are asked for."""

    def families(self) -> AsyncIterable[Metric]: ...


class Gathered(Collector):
    """Metrics that were computed a moment ago, as the encoder wants them."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        """Return them."""
        return self._families


def exposed(collector: Collector, accept: str) -> Response:
    """Return the answer that shows metrics in the form that `accept`, a header, asks for."""
    encode, media_type = choose_encoder(accept)
    return Response(encode(collector), headers={"Content-Type": media_type})


def _checked(path: str, check: Check) -> Route:
    """Return the route that answers 200 while all is well, else 503 with the reason."""

    async def answer(request: Request) -> Response:
        reason = check()
        body = {"status": "unavailable" if reason else "ok", "reason": reason or None}
        return JSONResponse(body, 503 if reason else 200, headers={"Cache-Control": "no-store"})

    return Route(path, answer)


@asynccontextmanager
async def shown_metrics(
    source: Source, bind: str, setting: str, checks: Mapping[str, Check] | None = None
) -> AsyncGenerator[str | None, None]:
    """Show the metrics of `source` at /metrics inside the block, in the running event loop.

    Yields HOST:PORT, or None where they are not shown.

    Args:
        source: of the metrics.
        bind: HOST:PORT; off: they are not shown; empty: the default, or the next free port.
        setting: name of the setting that holds `bind`.
        checks: what probes are told, by path.

    Raises:
        ConfigError: the address cannot be listened on; names `setting`.
    """
    if bind == OFF:
        yield None
        return

    async def show(request: Request) -> Response:
        families = [family async for family in source.families()]
        tasks = len(asyncio.all_tasks())
        families.append(gauge("argus_asyncio_tasks", "Tasks of the event loop.", tasks))
        return exposed(Gathered(families), request.headers.get("accept", ""))

    probes = [_checked(path, check) for path, check in (checks or {}).items()]
    server = WebServer(Starlette(routes=[Route("/metrics", show), *probes]))
    address = await server.start(listen(bind, setting, DEFAULT_BIND))
    log.info("metrics at http://%s/metrics", address)
    try:
        yield address
    finally:
        await server.stop()
