"""One Join stream, from hello to its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING

import grpc

from argus.engine.events import (
    FailureReason,
    RowDone,
    RowEvent,
    RowFailed,
    RowStarted,
    RowStates,
    RowStep,
)
from argus.engine.moves import Order
from argus.errors import ArgusError, InternalError, UnavailableError
from argus.node.outbox import Outbox
from argus.node.traces import RowTraces
from argus.node.translate import (
    Reported,
    event_message,
    heartbeat_message,
    moved_message,
    refusal,
)
from argus.rpc.convert_cluster import node_info_to_proto, work_from_proto
from argus.rpc.dial import Metadata
from argus.rpc.status import from_rpc_error
from argus.types import NodeInfo, ResolvedRequest
from argus.v1 import cluster_pb2
from argus.v1.cluster_pb2_grpc import ClusterServiceStub

if TYPE_CHECKING:
    from argus.engine.engine import Engine
    from argus.node.cache import Fetch, NodeCache

log = logging.getLogger(__name__)

FAREWELL_S = 5.0
WAIT_SHARE = 0.1
"""Of the time to a row's deadline that it waits for its state at most."""
TELL_EVERY_S = 0.1
"""Seconds between two steps of a row that are told of: nobody sees more, and the coordinator hears
the steps of all rows on all nodes."""
EOF = grpc.aio.EOF  # type: ignore[attr-defined]


class Session:
    """A node's membership while one stream lasts. The rows it was given end with it."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        info: NodeInfo,
        engine: Engine,
        cache: NodeCache | None = None,
        metadata: Metadata = (),
        traces: RowTraces | None = None,
    ) -> None:
        stub = ClusterServiceStub(channel)  # type: ignore[no-untyped-call]
        self._call = stub.Join(metadata=metadata)
        self._info = info
        self._engine = engine
        self._cache = cache
        self._traces = traces or RowTraces(info.name)
        self._loop = asyncio.get_running_loop()
        self._outbox = Outbox()
        self._rows: set[tuple[str, int]] = set()
        self._told_s: dict[tuple[str, int], float] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(
        self, stop: asyncio.Event, drain_grace_s: float, on_joined: Callable[[], None]
    ) -> None:
        """Join, and work until `stop` is set and the rows are done, or the stream breaks.

        Raises:
            ArgusError: the coordinator refused the node, or the stream broke.
        """
        try:
            welcome = await self._greet()
            on_joined()
            if self._cache is not None:
                self._cache.listen(self._report)
            await self._work(welcome, stop, drain_grace_s)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, "the coordinator") from error
        finally:
            for request_id, attempt in list(self._rows):
                self._engine.cancel(request_id, attempt)
            self._call.cancel()

    async def _greet(self) -> cluster_pb2.Welcome:
        await self._call.write(cluster_pb2.JoinRequest(hello=node_info_to_proto(self._info)))
        answer = await self._call.read()
        if answer is EOF:
            # The status of the ended call says why.
            await self._raise_status()
        if answer.WhichOneof("message") != "welcome":
            raise InternalError("the coordinator did not answer the hello with a welcome")
        log.info("joined as %s", self._info.name)
        welcome: cluster_pb2.Welcome = answer.welcome
        return welcome

    async def _raise_status(self) -> None:
        code = await self._call.code()
        if code is not grpc.StatusCode.OK:
            raise grpc.aio.AioRpcError(
                code,
                await self._call.initial_metadata(),
                await self._call.trailing_metadata(),
                await self._call.details(),
                None,
            )
        raise UnavailableError("the coordinator ended the stream")

    async def _work(
        self, welcome: cluster_pb2.Welcome, stop: asyncio.Event, drain_grace_s: float
    ) -> None:
        drain = asyncio.Event()
        sender = asyncio.create_task(self._send())
        receiver = asyncio.create_task(self._receive(drain))
        tasks = [
            sender,
            receiver,
            asyncio.create_task(self._beat(welcome.heartbeat_interval_s)),
            asyncio.create_task(self._leave(stop, drain, drain_grace_s)),
        ]
        try:
            # The sender ends by itself only after a drain, with everything said.
            done, _ = await asyncio.wait(tasks[:3], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            # Hanging up before the coordinator has read the last words would lose them.
            await asyncio.wait({receiver}, timeout=FAREWELL_S)
            stop.set()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _leave(self, stop: asyncio.Event, drain: asyncio.Event, grace_s: float) -> None:
        """Wait until asked to leave, finish the rows, and close the outbox."""
        waits = [asyncio.create_task(event.wait()) for event in (stop, drain)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
        self._engine.drain()
        self._outbox.put(cluster_pb2.JoinRequest(draining=cluster_pb2.Draining()))
        try:
            await asyncio.wait_for(self._idle.wait(), grace_s)
        except TimeoutError:
            log.warning("leaving with %d rows unfinished", len(self._rows))
        self._outbox.close()

    async def _send(self) -> None:
        try:
            while (message := await self._outbox.get()) is not None:
                await self._call.write(message)
            await self._call.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            # What a write to an ended stream raises says nothing; how the stream ended does.
            await self._raise_status()

    async def _receive(self, drain: asyncio.Event) -> None:
        while (message := await self._call.read()) is not EOF:
            kind = message.WhichOneof("message")
            if kind == "work":
                self._take(message.work)
            elif kind == "cancel":
                self._engine.cancel(message.cancel.request_id, message.cancel.attempt)
            elif kind == "drain":
                drain.set()
            elif kind == "move":
                self._move(message.move)
        await self._raise_status()

    def _move(self, asked: cluster_pb2.MoveVariants) -> None:
        """Have the engine move variants; the answer is sent when it is done."""
        order = Order(asked.load, tuple(asked.park), asked.make_room, asked.drop)

        def done(moved: Future[float]) -> None:
            # The loader's own shutdown cancels what it has not begun.
            if not self._loop.is_closed() and not moved.cancelled():
                self._loop.call_soon_threadsafe(self._answer, asked.order, moved)

        try:
            self._engine.move(order).add_done_callback(done)
        except (ArgusError, RuntimeError) as error:
            log.info("order %d: %s", asked.order, error)
            self._outbox.put(moved_message(asked.order, self._engine.stats(), refusal=str(error)))

    def _answer(self, order: int, moved: Future[float]) -> None:
        error = moved.exception()
        why = "" if error is None else str(error) or type(error).__name__
        seconds = moved.result() if error is None else 0.0
        self._outbox.put(moved_message(order, self._engine.stats(), why, seconds))

    async def _beat(self, interval_s: float) -> None:
        """Send heartbeats as long as the device thread lives; raise when it is dead."""
        sequence = 0
        while True:
            sequence += 1
            stats = self._engine.stats()
            if not stats.alive:
                raise InternalError("the device thread is dead")
            tiers = self._cache.tiers() if self._cache is not None else ()
            self._outbox.put(heartbeat_message(sequence, stats, tiers))
            await asyncio.sleep(interval_s)

    def _report(self, report: cluster_pb2.CacheReport) -> None:
        """Queue what the cache gained or lost; called from its threads."""
        if not self._loop.is_closed():
            message = cluster_pb2.JoinRequest(cache=report)
            self._loop.call_soon_threadsafe(self._outbox.put, message)

    def _take(self, work: cluster_pb2.Work) -> None:
        """Hand a row to the engine, or tell the coordinator why not."""
        row = (work.request_id, work.attempt)
        self._traces.begin(work)
        fetch: Fetch | None = None

        def listen(event: RowEvent) -> None:
            if isinstance(event, RowStates):
                if self._cache is not None:
                    self._cache.keep(work.keep_key, work.tenant, work.steps, event.latents)
                return
            # The loop is closed when an engine thread outlives a daemon that is going down.
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._tell, row, event, fetch)

        try:
            request = work_from_proto(work)
            if request.skip and self._cache is not None:
                fetch = self._cache.fetch(request.start_key, request.skip)
                wait_s = self._cache.state_wait_s
                if request.deadline_s is not None:
                    wait_s = min(wait_s, WAIT_SHARE * request.deadline_s)
                self._engine.submit(request, listen, fetch.latents, wait_s)
            else:
                self._engine.submit(_whole(request), listen)
        except ArgusError as error:
            self._tell(row, refusal(error))
        except Exception as error:
            # One strange request must not take the node down, and the next one, and the next.
            extra = {"request_id": work.request_id, "attempt": work.attempt}
            log.exception("a row could not be taken", extra=extra)
            self._tell(row, RowFailed(FailureReason.INTERNAL, str(error)))
        else:
            self._rows.add(row)
            self._idle.clear()

    def _tell(self, row: tuple[str, int], event: Reported, fetch: Fetch | None = None) -> None:
        if isinstance(event, RowStep) and not self._is_news(row, event):
            return
        if isinstance(event, RowDone | RowFailed):
            self._rows.discard(row)
            self._told_s.pop(row, None)
            if not self._rows:
                self._idle.set()
        self._traces.note(row, event)
        message = event_message(*row, event)
        if isinstance(event, RowStarted) and event.skipped and fetch and fetch.found:
            message.event.started.state_tier = fetch.found.tier
            message.event.started.state_s = fetch.found.seconds
        self._outbox.put(message)

    def _is_news(self, row: tuple[str, int], event: RowStep) -> bool:
        """Whether a step is told of: the last one always, others not too often."""
        now_s = self._loop.time()
        last_s = self._told_s.get(row)
        if event.step < event.steps and last_s is not None and now_s - last_s < TELL_EVERY_S:
            return False
        self._told_s[row] = now_s
        return True


def _whole(request: ResolvedRequest) -> ResolvedRequest:
    """Return the row as a node without a cache runs it: every step, and nothing kept."""
    return replace(request, skip=0, checkpoints=request.checkpoints if request.keep_key else ())
