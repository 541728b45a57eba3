"""One Join stream, from hello to its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import grpc

from argus.engine.moves import Order
from argus.errors import ArgusError, InternalError, UnavailableError
from argus.node.outbox import HEARTBEAT, Outbox
from argus.node.rows import Rows
from argus.node.translate import heartbeat_message, moved_message
from argus.rpc.bundles import bundle, gather, unbundle
from argus.rpc.convert_cluster import node_info_to_proto
from argus.rpc.dial import Metadata
from argus.rpc.status import from_rpc_error
from argus.types import NodeInfo
from argus.v1 import cluster_pb2
from argus.v1.cluster_pb2_grpc import ClusterServiceStub

if TYPE_CHECKING:
    from argus.engine.engine import Engine
    from argus.node.cache import NodeCache

log = logging.getLogger(__name__)

GREET_S = 5.0
"""A coordinator that hangs takes connections all the same, and says nothing."""
FAREWELL_S = 5.0
EOF = grpc.aio.EOF  # type: ignore[attr-defined]
MISSED_PULSES = 3
"""Signs of life of the coordinator that may fail to come, beyond the lease that it gave."""


@dataclass(slots=True)
class Fence:
    """Keeps a node from a coordinator that another one has taken over from.

    Attributes:
        epoch: the largest that was seen.
    """

    epoch: int = 0

    def check(self, epoch: int) -> None:
        """Raise where a coordinator leads no more; one without a stand-by has no epoch, 0.

        Raises:
            UnavailableError: a later leadership was seen.
        """
        if 0 < epoch < self.epoch:
            raise UnavailableError(
                f"this coordinator leads no more: its epoch is {epoch}, and {self.epoch} was seen"
            )
        self.epoch = max(self.epoch, epoch)


class Session:
    """A node's membership while one stream lasts.

    Its rows go on without it, unless the coordinator is one that does not take rows back.

    Args:
        channel: to the coordinator.
        info: the node.
        engine: that runs the rows.
        rows: that it was given, on this stream and on those before.
        fence: of all streams of this node.
        cache: of states; None where it is off.
        metadata: that shows who calls.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        info: NodeInfo,
        engine: Engine,
        rows: Rows,
        fence: Fence,
        cache: NodeCache | None = None,
        metadata: Metadata = (),
    ) -> None:
        stub = ClusterServiceStub(channel)  # type: ignore[no-untyped-call]
        self._call = stub.Join(metadata=metadata)
        self._info = info
        self._engine = engine
        self._rows = rows
        self._fence = fence
        self._cache = cache
        self._loop = asyncio.get_running_loop()
        self._outbox = Outbox()
        self._heard = False
        self.welcome: cluster_pb2.Welcome | None = None
        """The coordinator's answer; None before it."""

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
            if self.welcome is not None:
                self._rows.part(keep=self.welcome.takes_rows)
            self._call.cancel()

    async def _greet(self) -> cluster_pb2.Welcome:
        hello = node_info_to_proto(self._info)
        hello.keeps_rows = hello.reads_bundles = True
        hello.held.extend(self._rows.held())
        try:
            async with asyncio.timeout(GREET_S):
                await self._call.write(cluster_pb2.JoinRequest(hello=hello))
                answer = await self._call.read()
        except TimeoutError as error:
            raise UnavailableError(f"no welcome within {GREET_S:g} s") from error
        except asyncio.InvalidStateError:
            await self._raise_status()
        if answer is EOF:
            # The status of the ended call says why.
            await self._raise_status()
        if answer.WhichOneof("message") != "welcome":
            raise InternalError("the coordinator did not answer the hello with a welcome")
        welcome: cluster_pb2.Welcome = answer.welcome
        self._fence.check(welcome.epoch)
        self.welcome = welcome
        if not welcome.takes_rows:
            self._rows.part(keep=False)
        self._rows.join(self._outbox, welcome.run, welcome.dropped)
        log.info("joined as %s, with %d rows", self._info.name, self._rows.unfinished)
        return welcome

    async def _raise_status(self) -> NoReturn:
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
        sender = asyncio.create_task(self._send(welcome.reads_bundles))
        receiver = asyncio.create_task(self._receive(drain))
        tasks = [
            sender,
            receiver,
            asyncio.create_task(self._beat(welcome.heartbeat_interval_s)),
            asyncio.create_task(self._listen(welcome)),
            asyncio.create_task(self._leave(stop, drain, drain_grace_s)),
        ]
        try:
            # The sender ends by itself only after a drain, with everything said.
            done, _ = await asyncio.wait(tasks[:4], return_when=asyncio.FIRST_COMPLETED)
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
        if self._engine.draining:
            stop.set()  # it was leaving when an earlier stream broke
        waits = [asyncio.create_task(event.wait()) for event in (stop, drain)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
        self._engine.drain()
        self._outbox.put(cluster_pb2.JoinRequest(draining=cluster_pb2.Draining()))
        try:
            await asyncio.wait_for(self._rows.idle.wait(), grace_s)
        except TimeoutError:
            log.warning("leaving with %d rows unfinished", self._rows.unfinished)
        self._outbox.close()

    async def _send(self, bundles: bool) -> None:
        try:
            while (message := await self._outbox.get()) is not None:
                messages = [message]
                if bundles and message.WhichOneof("message") != HEARTBEAT:
                    # A sign of life is heard when the last byte of its message is.
                    messages = gather(message, self._outbox.get_nowait)
                await self._call.write(bundle(messages))
                for message in messages:
                    self._rows.sent(message)
            await self._call.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            # What a write to an ended stream raises says nothing; how the stream ended does.
            await self._raise_status()

    async def _receive(self, drain: asyncio.Event) -> None:
        while (message := await self._call.read()) is not EOF:
            self._heard = True
            for each in unbundle(message):
                self._take(each, drain)
        await self._raise_status()

    def _take(self, message: cluster_pb2.JoinResponse, drain: asyncio.Event) -> None:
        kind = message.WhichOneof("message")
        if kind == "work":
            self._rows.take(message.work)
        elif kind == "cancel":
            self._rows.cancel(message.cancel.request_id, message.cancel.attempt)
        elif kind == "drain":
            drain.set()
        elif kind == "move":
            self._move(message.move)
        elif kind == "settled":
            self._rows.settled()

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

    async def _listen(self, welcome: cluster_pb2.Welcome) -> None:
        """Raise when the coordinator is silent for too long: it hangs, or the network is cut.

        Raises:
            UnavailableError: nothing was heard.
        """
        interval_s = welcome.pulse_interval_s
        if not interval_s:
            await asyncio.Event().wait()
        # Looks are counted, not seconds: after a pause of this process what was said is read first.
        most = round(welcome.lease_s / interval_s) + MISSED_PULSES
        quiet = 0
        while quiet <= most:
            self._heard = False
            await asyncio.sleep(interval_s)
            quiet = 0 if self._heard else quiet + 1
        raise UnavailableError(
            f"nothing was heard from the coordinator for {most * interval_s:g} s"
        )

    def _report(self, report: cluster_pb2.CacheReport) -> None:
        """Queue what the cache gained or lost; called from its threads."""
        if not self._loop.is_closed():
            message = cluster_pb2.JoinRequest(cache=report)
            self._loop.call_soon_threadsafe(self._outbox.put, message)
