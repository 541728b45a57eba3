"""Spans reach a collector that speaks OTLP; one that is away holds nobody up."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

import argus
from argus.clock import ManualClock
from argus.config import TracingConfig
from argus.tracing.export import EXPORTER_LOG, Seldom
from argus.tracing.opening import open_tracer
from argus.tracing.spans import Kind


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.received: list[trace_service_pb2.ExportTraceServiceRequest] = []

    def Export(  # noqa: N802
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: object
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        self.received.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()


def test_spans_reach_a_collector_with_who_made_them() -> None:
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        tracer = open_tracer(TracingConfig(f"http://127.0.0.1:{port}"), "argus-node", "n1")
        span = tracer.start("argus.row", Kind.SERVER, steps=3)
        span.child("argus.decode").end()
        span.end()
        tracer.close()
    finally:
        server.stop(None)
    spans = [
        (one, resource.resource)
        for request in collector.received
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for one in scope.spans
    ]
    decode, row = (next(s for s, _ in spans if s.name == n) for n in ("argus.decode", "argus.row"))
    assert decode.parent_span_id == row.span_id
    assert [(a.key, a.value.int_value) for a in row.attributes] == [("argus.steps", 3)]
    who = {a.key: a.value.string_value for a in spans[0][1].attributes}
    assert (who["service.name"], who["service.instance.id"]) == ("argus-node", "n1")
    assert who["service.version"] == argus.__version__


async def test_a_collector_that_is_away_holds_nobody_up() -> None:
    tracer = open_tracer(TracingConfig("http://127.0.0.1:1"), "argus-node")
    tracer.start("argus.row", Kind.SERVER).end()
    # Far more than it may take; without a bound it would be for ever.
    await asyncio.wait_for(asyncio.to_thread(tracer.close), 20)


def test_complaints_come_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    open_tracer(TracingConfig("http://127.0.0.1:1"), "argus-node").close()
    filters = logging.getLogger(EXPORTER_LOG).filters
    assert [type(one) for one in filters if isinstance(one, Seldom)] == [Seldom]
    clock = ManualClock()
    seldom = Seldom(60.0, clock.now)

    def passes(level: int) -> bool:
        return bool(seldom.filter(logging.LogRecord("x", level, "", 0, "away", None, None)))

    assert [passes(logging.WARNING), passes(logging.ERROR), passes(logging.ERROR)] == [
        False,
        True,
        False,
    ]
    clock.advance(61.0)
    assert passes(logging.ERROR)
