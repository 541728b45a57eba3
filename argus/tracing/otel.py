"""Spans by OpenTelemetry. Importing this needs its API; nothing else in Argus does."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import argus
from argus.tracing.spans import TRACEPARENT, Kind, Value

PREFIX = "argus."
_KINDS = {
    Kind.INSIDE: trace.SpanKind.INTERNAL,
    Kind.CLIENT: trace.SpanKind.CLIENT,
    Kind.SERVER: trace.SpanKind.SERVER,
}
_W3C = TraceContextTextMapPropagator()


class OtelSpan:
    """One span of OpenTelemetry."""

    def __init__(self, tracer: trace.Tracer, span: trace.Span) -> None:
        self._tracer = tracer
        self._span = span

    @property
    def traceparent(self) -> str:
        """What another process needs to go on from here."""
        carrier: dict[str, str] = {}
        _W3C.inject(carrier, trace.set_span_in_context(self._span, Context()))
        return carrier.get(TRACEPARENT, "")

    def note(self, **attributes: Value) -> None:
        """Set attributes, each under `argus.`."""
        if self._span.is_recording():
            self._span.set_attributes(_named(attributes))

    def child(self, name: str, **attributes: Value) -> OtelSpan:
        """Begin a piece of it."""
        context = trace.set_span_in_context(self._span, Context())
        return OtelSpan(
            self._tracer, self._tracer.start_span(name, context, attributes=_named(attributes))
        )

    def active(self) -> AbstractContextManager[object]:
        """Make it OpenTelemetry's current span inside the block."""
        return trace.use_span(
            self._span, end_on_exit=False, record_exception=False, set_status_on_exception=False
        )

    def fail(self, why: str) -> None:
        """Set its status to an error."""
        if self._span.is_recording():
            self._span.set_status(trace.StatusCode.ERROR, why)

    def end(self) -> None:
        """End it; a second time does nothing."""
        if self._span.is_recording():
            self._span.end()


class OtelTracer:
    """A tracer of OpenTelemetry.

    Args:
        provider: where spans go, and which are kept.
        shut_down: sends what is left; None: the provider is somebody else's to end.
    """

    on = True

    def __init__(
        self, provider: trace.TracerProvider, shut_down: Callable[[], None] | None = None
    ) -> None:
        self._tracer = provider.get_tracer("argus", argus.__version__)
        self._shut_down = shut_down

    def start(self, name: str, kind: Kind, traceparent: str = "", **attributes: Value) -> OtelSpan:
        """Begin a span."""
        context = _W3C.extract({TRACEPARENT: traceparent}, Context()) if traceparent else None
        span = self._tracer.start_span(name, context, _KINDS[kind], _named(attributes))
        return OtelSpan(self._tracer, span)

    def close(self) -> None:
        """Send what is left, unless the provider is somebody else's."""
        if self._shut_down is not None:
            self._shut_down()


def _named(attributes: dict[str, Value]) -> dict[str, Value]:
    return {PREFIX + name: value for name, value in attributes.items()}
