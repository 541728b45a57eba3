"""Rows without an engine or a network: what is kept of them, and what a new stream is told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from argus.clock import ManualClock
from argus.engine.events import (
    FailureReason,
    Listener,
    RowDone,
    RowEvent,
    RowFailed,
    RowStarted,
    RowStep,
)
from argus.node.outbox import Outbox
from argus.node.rows import Rows
from argus.node.traces import RowTraces
from argus.types import ResolvedRequest
from argus.v1 import cluster_pb2
from tests.unit.node.scripted import work


class Listening:
    """Takes every row, and says of it what the test says."""

    def __init__(self) -> None:
        self.listeners: dict[tuple[str, int], Listener] = {}
        self.cancelled: list[tuple[str, int]] = []

    def submit(self, request: ResolvedRequest, listener: Listener) -> None:
        self.listeners[request.request_id, request.attempt] = listener

    def cancel(self, request_id: str, attempt: int) -> bool:
        self.cancelled.append((request_id, attempt))
        return (request_id, attempt) in self.listeners

    async def say(self, name: str, *events: RowEvent) -> None:
        for event in events:
            self.listeners[name, 1](event)
            if isinstance(event, RowDone | RowFailed):
                del self.listeners[name, 1]
        await asyncio.sleep(0)


class Bench:
    """Rows on a manual clock, and the streams that they speak through."""

    def __init__(self, **settings: Any) -> None:
        self.clock = ManualClock()
        self.engine = Listening()
        limits: dict[str, Any] = {"kept_s": 15.0, "kept_bytes": 1000} | settings
        self.rows = Rows(self.engine, None, self.clock, RowTraces("n1"), **limits)  # type: ignore[arg-type]
        self.outbox = Outbox()

    def join(self, run: str = "one", dropped: tuple[str, ...] = ()) -> None:
        self.outbox = Outbox()
        names = [cluster_pb2.RowName(request_id=name, attempt=1) for name in dropped]
        self.rows.join(self.outbox, run, names)

    async def said(self) -> list[tuple[str, str | None]]:
        """Return what waits in the outbox, as written to the stream."""
        self.outbox.close()
        found = []
        while (message := await self.outbox.get()) is not None:
            self.rows.sent(message)
            found.append((message.event.request_id, message.event.WhichOneof("event")))
        return found


def done(data: bytes = b"png") -> RowDone:
    return RowDone(data, 1.0, 2, 5)


async def test_rows_go_on_without_a_stream_and_the_next_one_hears_where_they_are() -> None:
    bench = Bench()
    bench.join()
    bench.rows.take(work("r", deadline_s=20.0, claim=cluster_pb2.Claim(age_s=3.0)))
    bench.clock.advance(2.0)
    bench.rows.part(keep=True)
    await bench.engine.say("r", RowStarted(1.0), RowStep(1, 5, 2), RowStep(2, 5, 2))
    bench.clock.advance(4.0)
    (held,) = bench.rows.held()
    assert (held.run, held.age_s, held.work.deadline_s) == ("one", 9.0, 14.0)
    assert (held.started.waited_s, held.step.step, held.ended) == (1.0, 2, False)
    assert held.work.prompt == "a red circle"
    bench.join("two")
    await bench.engine.say("r", RowStep(3, 5, 2), done())
    assert await bench.said() == [("r", "step"), ("r", "done")]


async def test_a_row_that_starts_between_hello_and_welcome_is_told_of() -> None:
    bench = Bench()
    bench.join()
    bench.rows.take(work("r"))
    bench.rows.part(keep=True)
    assert not bench.rows.held()[0].HasField("started")
    await bench.engine.say("r", RowStarted(1.0))
    bench.join("two")
    assert await bench.said() == [("r", "started")]


async def test_a_picture_finished_meanwhile_is_handed_over_unless_it_is_dropped() -> None:
    bench = Bench()
    bench.join()
    for name in ("wanted", "dropped"):
        bench.rows.take(work(name))
    bench.rows.part(keep=True)
    for name in ("wanted", "dropped"):
        await bench.engine.say(name, done())
    assert [(row.ended, row.bytes) for row in bench.rows.held()] == [(True, 3), (True, 3)]
    assert bench.rows.unsettled
    bench.join("two", dropped=("dropped",))
    assert await bench.said() == [("wanted", "done")]
    assert not bench.rows.unsettled


async def test_a_dropped_row_is_cancelled_and_nobody_hears_of_it() -> None:
    bench = Bench()
    bench.join()
    bench.rows.take(work("r"))
    bench.rows.part(keep=True)
    bench.rows.held()
    bench.join("two", dropped=("r",))
    assert bench.engine.cancelled == [("r", 1)]
    await bench.engine.say("r", RowFailed(FailureReason.CANCELLED, ""))
    assert await bench.said() == []
    assert bench.rows.idle.is_set()


async def test_what_was_sent_is_kept_for_a_while_for_the_next_coordinator() -> None:
    bench = Bench(kept_s=15.0)
    bench.join()
    bench.rows.take(work("r"))
    await bench.engine.say("r", done())
    assert await bench.said() == [("r", "done")]
    bench.clock.advance(14.0)
    bench.rows.part(keep=True)
    assert [row.work.request_id for row in bench.rows.held()] == ["r"]
    bench.clock.advance(2.0)
    assert bench.rows.held() == []


async def test_what_was_written_just_before_the_stream_broke_counts_as_unsaid() -> None:
    bench = Bench()
    bench.join()
    for name in ("early", "late"):
        bench.rows.take(work(name))
    await bench.engine.say("early", done())
    await bench.said()
    bench.clock.advance(5.0)
    bench.join()
    assert await bench.said() == [("early", "done")]  # a new stream is told again
    bench.clock.advance(5.0)
    assert not bench.rows.part(keep=True)  # type: ignore[func-returns-value]
    bench.join()
    await bench.engine.say("late", done())
    await bench.said()
    bench.rows.part(keep=True)
    assert bench.rows.unsettled


async def test_what_the_coordinator_has_settled_is_in_no_doubt_and_is_kept_all_the_same() -> None:
    bench = Bench()
    bench.join()
    for name in ("sent", "later", "running"):
        bench.rows.take(work(name))
    await bench.engine.say("sent", done())
    await bench.said()
    bench.join()
    await bench.said()
    await bench.engine.say("later", done())
    bench.rows.settled()
    bench.rows.part(keep=True)
    unsent = [name for (name, _), row in bench.rows._held.items() if row.sent_s is None]
    assert unsent == ["later", "running"]
    assert [row.work.request_id for row in bench.rows.held()] == ["sent", "later", "running"]
    # Another stream is told again, and what it has not settled may not have been read.
    bench.join("two")
    await bench.engine.say("running", done())
    assert [name for name, _ in await bench.said()] == ["sent", "later", "running"]
    assert not bench.rows.unsettled
    bench.rows.part(keep=True)
    assert bench.rows.unsettled


async def test_pictures_kept_are_bounded_and_those_already_sent_go_first() -> None:
    bench = Bench(kept_bytes=1000)
    bench.join()
    for name in "abcd":
        bench.rows.take(work(name))
    await bench.engine.say("a", done(bytes(400)))
    await bench.said()
    bench.clock.advance(5.0)
    bench.rows.part(keep=True)
    for name in "bc":
        await bench.engine.say(name, done(bytes(400)))
    assert [row.work.request_id for row in bench.rows.held()] == ["b", "c", "d"]
    await bench.engine.say("d", done(bytes(400)))
    assert sum(row.bytes for row in bench.rows.held()) <= 1000


async def test_rows_of_a_coordinator_that_takes_none_back_end_with_its_stream() -> None:
    bench = Bench()
    bench.join()
    bench.rows.take(work("r"))
    bench.rows.part(keep=False)
    assert bench.engine.cancelled == [("r", 1)]
    assert bench.rows.held() == []


@pytest.mark.parametrize("reason", [FailureReason.LATE, FailureReason.INTERNAL])
async def test_a_failure_meanwhile_is_handed_over_too(reason: FailureReason) -> None:
    bench = Bench()
    bench.join()
    bench.rows.take(work("r"))
    bench.rows.part(keep=True)
    await bench.engine.say("r", RowFailed(reason, "why"))
    (held,) = bench.rows.held()
    assert (held.ended, held.bytes) == (True, 0)
    bench.join("two")
    assert await bench.said() == [("r", "failed")]
