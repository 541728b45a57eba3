"""Spans on their way to a collector: OpenTelemetry's SDK, with OTLP over gRPC."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

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
EXPORTER_LOG = "opentelemetry.exporter.otlp.proto.grpc.exporter"
COMPLAIN_EVERY_S = 60.0
"""The exporter says twice a batch, which is every second, that a collector is away."""


class Seldom(logging.Filter):
    """Lets errors through once in a while, and nothing below.

    Args:
        every_s: seconds between two.
        now_s: monotonic seconds.
    """

    def __init__(
        self, every_s: float = COMPLAIN_EVERY_S, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._every_s = every_s
        self._now_s = now_s
        self._said_s = -math.inf

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is logged."""
        now_s = self._now_s()
        if record.levelno < logging.ERROR or now_s - self._said_s < self._every_s:
            return False
        self._said_s = now_s
        return True


def exporting_tracer(config: TracingConfig, service: str, instance: str) -> OtelTracer:
    """Return a tracer whose spans go to the collector of the settings.

    Args:
        config: endpoint and share.
        service: who traces, such as argus-node.
        instance: which one of several, such as a node's name; empty: there is one.
    """
    logger = logging.getLogger(EXPORTER_LOG)
    if not any(isinstance(one, Seldom) for one in logger.filters):
        logger.addFilter(Seldom())
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
