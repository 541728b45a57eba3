"""A request's spans, from the client through the coordinator to the node, and nothing when off."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from opentelemetry import trace

from argus.client import AsyncClient, Client, Retries
from argus.clock import MonotonicClock
from argus.config import Config, CoordinatorConfig, NodeConfig, TracingConfig, load_config
from argus.coordinator.service import Coordinator
from argus.engine.events import FailureReason, RowDone, RowFailed, RowStarted, RowStep
from argus.errors import ConfigError, NotFoundError, UnavailableError
from argus.node import daemon
from argus.node.traces import RowTraces
from argus.tracing import opening
from argus.tracing.opening import application_tracer, open_tracer
from argus.tracing.spans import OFF, Kind, carried, ending, traceparent_in
from argus.v1 import cluster_pb2
from tests.unit.client.scripted import scripted_server
from tests.unit.tracing.kept import ANOTHER, Kept, id_of, parent_of

UNSAMPLED = ANOTHER[:-1] + "0"


async def test_one_trace_leads_from_the_client_through_the_coordinator_to_the_node(
    tiny_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there, node = Kept(), Kept(), Kept()
    coordinator = Coordinator(
        CoordinatorConfig(bind="127.0.0.1:0", drain_grace_s=0.2),
        MonotonicClock(),
        tracer=there.tracer,
    )
    address = await coordinator.start()
    monkeypatch.setattr(daemon, "open_tracer", lambda *_: node.tracer)
    models = (str(tiny_folders["tiny-eps"]),)
    settings = NodeConfig(address, "n1", models, device="cpu", max_lanes=4)
    stop = asyncio.Event()
    running = asyncio.create_task(daemon.serve(Config(node=settings), stop))
    try:
        patient = Retries(attempts=400, first_wait_s=0.1, longest_wait_s=0.1)
        async with AsyncClient(address, retries=patient, tracer=here.tracer) as client:
            await client.generate("a secret heliotrope", seed=7, steps=3, request_id="r")
    finally:
        stop.set()
        await asyncio.wait_for(running, 30)
        await coordinator.stop()
    client_span, request = here.spans["argus.client"], there.spans["argus.request"]
    row = node.spans["argus.row"]
    assert parent_of(request) == id_of(client_span)
    assert parent_of(there.spans["argus.admission"]) == id_of(request)
    assert parent_of(there.spans["argus.queue"]) == id_of(request)
    assert parent_of(row) == id_of(request)
    assert parent_of(node.spans["argus.steps"]) == id_of(row)
    assert parent_of(node.spans["argus.decode"]) == id_of(row)
    every = [span for kept in (here, there, node) for span in kept.spans.values()]
    assert {span.context.trace_id for span in every} == {client_span.context.trace_id}
    assert client_span.kind is trace.SpanKind.CLIENT
    assert {request.kind, row.kind} == {trace.SpanKind.SERVER}
    wanted = {"argus.request_id": "r", "argus.node": "n1", "argus.variant": "tiny-eps"}
    assert wanted.items() <= there.attributes("argus.request").items()
    wanted |= {"argus.level": "tiny-eps-reference", "argus.steps": 3, "argus.attempt": 1}
    assert wanted.items() <= node.attributes("argus.row").items()
    assert here.attributes("argus.client")["argus.steps"] == 3
    ends = here.attributes("argus.client") | there.attributes("argus.request")
    assert "argus.left_early" not in ends, "who has the picture has not left early"
    assert there.attributes("argus.queue")["argus.node"] == "n1"
    assert not any("heliotrope" in span.to_json() for span in every)
    assert not any(span.status.status_code is trace.StatusCode.ERROR for span in every)


async def test_a_refused_request_says_how_and_not_what() -> None:
    kept = Kept()
    config = CoordinatorConfig(bind="127.0.0.1:0", drain_grace_s=0.0)
    coordinator = Coordinator(config, MonotonicClock(), tracer=kept.tracer)
    address = await coordinator.start()
    try:
        async with AsyncClient(address, retries=Retries(attempts=1), tracer=kept.tracer) as client:
            with pytest.raises(UnavailableError):
                await client.generate("p")
    finally:
        await coordinator.stop()
    for name in ("argus.client", "argus.request", "argus.admission"):
        status = kept.spans[name].status
        assert (status.status_code, status.description) == (
            trace.StatusCode.ERROR,
            "UnavailableError",
        )


async def test_each_attempt_of_a_client_carries_the_same_trace() -> None:
    kept = Kept()
    async with scripted_server() as server:
        server.images.failures = [NotFoundError("variant", "x", [])]
        async with AsyncClient(server.address, tracer=kept.tracer) as client:
            with pytest.raises(NotFoundError):
                await client.generate("p")

        def ask() -> None:
            with (
                Client(server.address, tracer=kept.tracer) as blocking,
                kept.tracer.start("outer", Kind.INSIDE).active(),
            ):
                outer.append(trace.get_current_span().get_span_context().span_id)
                assert len(blocking.images("p", 2)) == 2
                list(blocking.stream("p"))

        outer: list[int] = []
        await asyncio.to_thread(ask)
    spans = [s for s in kept.every if s.name == "argus.client"]
    assert [s.parent.span_id if s.parent else None for s in spans] == [None, *outer * 3]


def row_of(kept: Kept, traceparent: str) -> tuple[RowTraces, tuple[str, int]]:
    traces = RowTraces("n1", kept.tracer)
    traces.begin(cluster_pb2.Work(request_id="r", attempt=2, steps=5, traceparent=traceparent))
    return traces, ("r", 2)


def test_a_row_that_is_spaced_anew_is_decoded_after_its_last_step() -> None:
    kept = Kept()
    traces, row = row_of(kept, ANOTHER)
    traces.note(row, RowStarted(waited_s=0.5, skipped=1))
    traces.note(row, RowStep(2, 5, 4))
    assert "argus.steps" not in kept.spans
    traces.note(row, RowStep(3, 3, 2))
    assert kept.attributes("argus.steps") == {"argus.steps": 3, "argus.lanes": 2}
    traces.note(row, RowDone(b"", 1.0, max_lanes=4, forwards=3))
    assert kept.attributes("argus.row")["argus.waited_s"] == 0.5
    assert kept.attributes("argus.row")["argus.forwards"] == 3
    assert len(kept.spans) == 3
    traces.note(row, RowStep(3, 3, 2))  # of a row that has ended


def test_a_row_that_fails_ends_whatever_it_was_at() -> None:
    kept = Kept()
    traces, row = row_of(kept, ANOTHER)
    traces.note(row, RowStarted(0.0))
    traces.note(row, RowFailed(FailureReason.LATE, "the words may quote"))
    assert kept.spans["argus.row"].status.description == "late"
    assert "argus.steps" in kept.spans
    assert not traces._open


@pytest.mark.parametrize("traceparent", ["", UNSAMPLED])
def test_a_row_without_a_sampled_trace_leaves_no_span(traceparent: str) -> None:
    kept = Kept()
    traces, row = row_of(kept, traceparent)
    traces.note(row, RowStarted(0.0))
    traces.note(row, RowDone(b"", 1.0, 2))
    assert kept.spans == {}
    assert not traces._open


def test_the_share_counts_only_where_nobody_else_has_said() -> None:
    none = Kept(share=0.0)
    none.tracer.start("mine", Kind.SERVER).end()
    none.tracer.start("theirs", Kind.SERVER, ANOTHER).end()
    assert set(none.spans) == {"theirs"}
    every = Kept()
    every.tracer.start("unsampled", Kind.SERVER, UNSAMPLED).end()
    assert every.spans == {}


@pytest.mark.parametrize("text", ["nonsense", "00-0-0-01", "ff" + ANOTHER[2:]])
def test_a_traceparent_that_cannot_be_read_is_as_good_as_none(text: str) -> None:
    kept = Kept()
    kept.tracer.start("span", Kind.SERVER, text).end()
    assert kept.spans["span"].parent is None


def test_what_is_handed_over_can_be_picked_up() -> None:
    kept = Kept()
    span = kept.tracer.start("span", Kind.CLIENT)
    metadata = (("authorization", "Bearer k"), *carried(span))
    assert traceparent_in(metadata) == span.traceparent
    assert f"{span.traceparent[36:52]}" == format(id_of(span._span), "016x")  # type: ignore[arg-type]
    assert traceparent_in([("traceparent", "0" * 1000)]) == ""
    assert traceparent_in(None) == ""


def test_one_who_leaves_early_has_not_failed() -> None:
    kept = Kept()

    def events() -> Iterator[int]:
        with ending(kept.tracer.start("left", Kind.CLIENT)):
            yield 1
            yield 2

    started = events()
    next(started)
    started.close()
    assert kept.attributes("left") == {"argus.left_early": True}
    assert kept.spans["left"].status.status_code is trace.StatusCode.UNSET


def test_after_its_end_a_span_does_nothing(caplog: pytest.LogCaptureFixture) -> None:
    kept = Kept()
    span = kept.tracer.start("over", Kind.CLIENT)
    span.end()
    span.note(late=True)
    span.fail("late")
    span.end()
    assert len(kept.every) == 1
    assert not kept.attributes("over")
    assert caplog.text == "", "OpenTelemetry would complain"


def test_nothing_is_traced_and_imported_unless_asked_for() -> None:
    assert open_tracer(TracingConfig(), "argus-node") is OFF
    span = OFF.start("x", Kind.CLIENT, ANOTHER)
    assert (carried(span), span.child("y").traceparent) == ((), "")
    code = (
        "import sys; from argus.tracing.opening import open_tracer; "
        "from argus.config import TracingConfig; open_tracer(TracingConfig(), 'x'); "
        "print([m for m in sys.modules if m.startswith('opentelemetry')])"
    )
    said = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "[]"


@contextmanager
def missing(module: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, module, None)
        patch.delitem(sys.modules, "argus.tracing.export", raising=False)
        yield


def test_an_endpoint_without_opentelemetry_says_what_to_install() -> None:
    config = TracingConfig("http://127.0.0.1:4317")
    with (
        missing("opentelemetry.exporter.otlp.proto.grpc.trace_exporter"),
        pytest.raises(ConfigError, match=r"tracing\.endpoint: .*argus-serve\[otel\]"),
    ):
        open_tracer(config, "argus-node")
    with missing("opentelemetry.trace"), pytest.raises(ConfigError, match="otel"):
        application_tracer()
    assert opening.NEEDED


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tracing.endpoint": "collector:4317"}, "tracing.endpoint: must be http://HOST:PORT"),
        ({"tracing.endpoint": "http://h:1/v1"}, "tracing.endpoint: must be"),
        ({"tracing.share": 1.5}, "tracing.share: must be 0"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_config(None, {}, settings)
