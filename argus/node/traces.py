"""What a node traces of its rows."""

from __future__ import annotations

from dataclasses import dataclass

from argus.engine.events import RowDone, RowFailed, RowStarted, RowStep
from argus.node.translate import Reported
from argus.tracing.spans import NO_SPAN, OFF, Kind, Span, Tracer
from argus.v1 import cluster_pb2

ROW, STEPS, DECODE = "argus.row", "argus.steps", "argus.decode"


@dataclass(slots=True)
class _Trace:
    row: Span
    part: Span = NO_SPAN
    """What it is at: its steps, or its decoding, encoding included."""


class RowTraces:
    """The spans of rows whose work came with a trace: waiting and steps and decode in one.

    Called from the event loop.

    Args:
        node: its name.
        tracer: where they begin.
    """

    def __init__(self, node: str, tracer: Tracer = OFF) -> None:
        self._node = node
        self._tracer = tracer
        self._open: dict[tuple[str, int], _Trace] = {}

    def begin(self, work: cluster_pb2.Work) -> None:
        """Note that a row has come."""
        if not self._tracer.on or not work.traceparent:
            return
        row = self._tracer.start(
            ROW,
            Kind.SERVER,
            work.traceparent,
            node=self._node,
            request_id=work.request_id,
            attempt=work.attempt,
            variant=work.variant,
            level=work.level,
            sampler=work.sampler,
            width=work.width,
            height=work.height,
            steps=work.steps,
            skip=work.skip,
        )
        self._open[work.request_id, work.attempt] = _Trace(row)

    def note(self, row: tuple[str, int], event: Reported) -> None:
        """Take in what a row reports, its request id and attempt first."""
        trace = self._open.get(row)
        if trace is None:
            return
        match event:
            case RowStarted():
                trace.row.note(waited_s=event.waited_s, skipped=event.skipped)
                trace.part = trace.row.child(STEPS)
            case RowStep() if event.step == event.steps:
                trace.part.note(steps=event.steps, lanes=event.lanes)
                trace.part.end()
                trace.part = trace.row.child(DECODE)
            case RowDone():
                trace.row.note(forwards=event.forwards, max_lanes=event.max_lanes)
                self._end(row, trace)
            case RowFailed():
                trace.row.fail(event.reason.value)
                self._end(row, trace)

    def _end(self, row: tuple[str, int], trace: _Trace) -> None:
        trace.part.end()
        trace.row.end()
        del self._open[row]
