"""What the gateway itself counts; the coordinator's metrics are at its own port."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from argus.gateway.making import Room
from argus.histogram import LONG_SECONDS

OTHER = "other"


class GatewayMetrics:
    """Counters of the gateway in a registry of their own.

    Args:
        room: what is under way.
    """

    def __init__(self, room: Room) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "argus_gateway_requests",
            "HTTP requests answered, by route, method and status.",
            ["route", "method", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "argus_gateway_request_seconds",
            "Seconds from a request's headers to the end of its answer, by route.",
            ["route"],
            buckets=LONG_SECONDS,
            registry=self.registry,
        )
        self.gone = Counter(
            "argus_gateway_clients_gone",
            "Requests whose client left before the answer was complete.",
            ["route"],
            registry=self.registry,
        )
        self.bytes = Counter(
            "argus_gateway_response_bytes",
            "Bytes of answers' bodies, by route.",
            ["route"],
            registry=self.registry,
        )
        taken = Gauge(
            "argus_gateway_in_flight_images",
            "Images being made through this gateway.",
            registry=self.registry,
        )
        taken.set_function(lambda: room.taken)
        limit = Gauge(
            "argus_gateway_in_flight_images_limit",
            "Most images made through this gateway at once.",
            registry=self.registry,
        )
        limit.set_function(lambda: room.limit)


class Measured:
    """Middleware that counts every request."""

    def __init__(self, app: ASGIApp, metrics: GatewayMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count one request, under the path of its route."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start_s, status, size, ended = time.perf_counter(), 0, 0, False

        async def sending(message: Message) -> None:
            nonlocal status, size, ended
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                size += len(message.get("body", b""))
                ended = not message.get("more_body", False)
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            route = _route(scope)
            method = scope["method"] if status not in (405, 501) else OTHER
            metrics = self._metrics
            metrics.requests.labels(route, method, str(status or 500)).inc()
            metrics.seconds.labels(route).observe(time.perf_counter() - start_s)
            metrics.bytes.labels(route).inc(size)
            if not ended or status == 499:
                metrics.gone.labels(route).inc()


def _route(scope: Scope) -> str:
    """Return the path of the route that was found; names of a client's making are not kept."""
    if "endpoint" not in scope:
        return OTHER
    path: str = scope["path"]
    for name, value in scope["path_params"].items():
        path = f"{path.removesuffix(str(value))}{{{name}}}"
    return path
