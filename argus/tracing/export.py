"""Spans on their way to a collector: OpenTelemetry's SDK, with OTLP over gRPC."""

from __future__ import annotations

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

import argus
from argus.config import TracingConfig
from argus.tracing.otel import OtelTracer

SEND_EVERY_MS = 1000
CALL_S = 2
"""A collector that takes longer loses spans; requests never wait for it."""


def exporting_tracer(config: TracingConfig, service: str, instance: str) -> OtelTracer:
    """Return a tracer whose spans go to the collector of the settings.

    Args:
        config: endpoint and share.
        service: who traces, such as argus-node.
        instance: which one of several, such as a node's name; empty: there is one.
    """
    insecure = config.endpoint.startswith("http://")
    exporter = OTLPSpanExporter(endpoint=config.endpoint, insecure=insecure, timeout=CALL_S)
    return sdk_tracer(exporter, config.share, service, instance)


def sdk_tracer(exporter: SpanExporter, share: float, service: str, instance: str) -> OtelTracer:
    """Return a tracer that hands spans to an exporter, in batches and in a thread of its own.

    A request that comes with a trace is traced where that one is; of the others `share` are.
    """
    resource = Resource.create(
        {"service.name": service, "service.version": argus.__version__}
        | ({"service.instance.id": instance} if instance else {})
    )
    provider = TracerProvider(
        sampler=ParentBasedTraceIdRatio(share), resource=resource, shutdown_on_exit=False
    )
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=SEND_EVERY_MS))
    return OtelTracer(provider, provider.shutdown)
