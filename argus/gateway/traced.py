"""HTTP requests for images as the beginning, or the middle, of a trace."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from argus.tracing.spans import MAX_TRACEPARENT_CHARS, TRACEPARENT, Kind, Tracer, ending

TRACED = "/v1/images/"


class Traced:
    """Lets what is asked of the coordinator for a request be part of the caller's trace.

    Args:
        app: what is inside.
        tracer: where spans begin.
    """

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or not scope["path"].startswith(TRACED):
            await self._app(scope, receive, send)
            return
        span = self._tracer.start("argus.http", Kind.SERVER, _traceparent(scope))

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                span.note(http_status=message["status"])
            await send(message)

        with ending(span), span.active():
            await self._app(scope, receive, noting)


def _traceparent(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == TRACEPARENT.encode() and len(value) <= MAX_TRACEPARENT_CHARS:
            return str(value.decode("latin-1"))
    return ""
