"""A tracer whose spans stay in memory."""

from __future__ import annotations

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

from argus.tracing.otel import OtelTracer

ANOTHER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
"""The traceparent of somebody else, as in the examples of the W3C."""


class Kept:
    """A tracer, and the spans that ended."""

    def __init__(self, share: float = 1.0) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=ParentBasedTraceIdRatio(share))
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = OtelTracer(self.provider)

    @property
    def every(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.every}

    def attributes(self, name: str) -> dict[str, object]:
        return dict(self.spans[name].attributes or {})


def parent_of(span: ReadableSpan) -> int:
    assert span.parent is not None
    return span.parent.span_id


def id_of(span: ReadableSpan) -> int:
    return span.get_span_context().span_id
