"""The rows that a node was given. They outlive the stream that they came by."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from argus.clock import Clock
from argus.engine.events import (
    FailureReason,
    RowDone,
    RowEvent,
    RowFailed,
    RowStarted,
    RowStates,
    RowStep,
)
from argus.errors import ArgusError
from argus.node.outbox import Outbox
from argus.node.traces import RowTraces
from argus.node.translate import Reported, event_message, refusal
from argus.rpc.convert_cluster import work_from_proto
from argus.types import ResolvedRequest
from argus.v1 import cluster_pb2, image_pb2

if TYPE_CHECKING:
    from argus.engine.engine import Engine
    from argus.node.cache import Fetch, NodeCache

log = logging.getLogger(__name__)

WAIT_SHARE = 0.1
"""Of the time to a row's deadline that it waits for its state at most."""
TELL_EVERY_S = 0.1
"""Seconds between two steps of a row that are told of: nobody sees more, and the coordinator hears
the steps of all rows on all nodes."""
MOST_ENDS = 256
"""Rows that have ended of which account is kept, however small their pictures."""

DOUBT_S = 2.0
"""What was written so long before a stream broke may not have been read, unless it is settled."""

RowId = tuple[str, int]


@dataclass(slots=True, eq=False)
class _Held:
    """A row and what became of it so far.

    Attributes:
        work: as it was given.
        run: of the coordinator that gave it.
        came_s: when.
        started: that its first step has begun.
        told: whether the coordinator has been told so.
        step: the last one done.
        told_step_s: when the coordinator was last told of one.
        end: message that says how it ended.
        sent_s: when that was written to a stream.
        settled: that the coordinator has said to have passed it on since.
    """

    work: cluster_pb2.Work
    run: str
    came_s: float
    started: cluster_pb2.WorkStarted | None = None
    told: bool = False
    step: image_pb2.StepProgress | None = None
    told_step_s: float | None = None
    end: cluster_pb2.JoinRequest | None = None
    sent_s: float | None = None
    settled: bool = False

    @property
    def bytes(self) -> int:
        """Bytes of its picture."""
        return 0 if self.end is None else len(self.end.event.done.data)

    def message(self, now_s: float) -> cluster_pb2.HeldRow:
        """Return what a hello says of it."""
        held_s = now_s - self.came_s
        row = cluster_pb2.HeldRow(
            work=self.work,
            run=self.run,
            age_s=self.work.claim.age_s + held_s,
            started=self.started,
            step=self.step,
            ended=self.end is not None,
            bytes=self.bytes,
        )
        if row.work.HasField("deadline_s"):
            row.work.deadline_s -= held_s
        return row


class Rows:
    """Hands rows to the engine and what becomes of them to the coordinator, whichever that is.

    While there is no stream rows go on, and how they end is kept. How they ended is kept for some
    time after it was sent, too: a coordinator may die with pictures that it did not pass on. All
    methods are for the event loop that made it.

    Args:
        engine: that runs them.
        cache: of states; None where it is off.
        clock: of their ages.
        traces: of what becomes of them.
        kept_s: seconds that an end is kept after it was sent.
        kept_bytes: of pictures kept; beyond, those that were sent go first, the oldest before
            others.
    """

    def __init__(
        self,
        engine: Engine,
        cache: NodeCache | None,
        clock: Clock,
        traces: RowTraces,
        *,
        kept_s: float,
        kept_bytes: int,
    ) -> None:
        self._engine = engine
        self._cache = cache
        self._clock = clock
        self._traces = traces
        self._kept_s = kept_s
        self._kept_bytes = kept_bytes
        self._loop = asyncio.get_running_loop()
        self._held: dict[RowId, _Held] = {}
        self._running = 0
        self._outbox: Outbox | None = None
        self._run = ""
        self.idle = asyncio.Event()
        """Set while no row is unfinished."""
        self.idle.set()

    @property
    def unfinished(self) -> int:
        """How many have not ended."""
        return self._running

    @property
    def unsettled(self) -> bool:
        """Whether some have not ended, or have without a coordinator having been told."""
        return any(row.sent_s is None for row in self._held.values())

    # -- streams --------------------------------------------------------------------------------

    def held(self) -> list[cluster_pb2.HeldRow]:
        """Return what the hello of a new stream says of the rows."""
        self._tidy()
        now_s = self._clock.now()
        for row in self._held.values():
            row.told = row.started is not None
        return [row.message(now_s) for row in self._held.values()]

    def join(self, outbox: Outbox, run: str, dropped: Iterable[cluster_pb2.RowName] = ()) -> None:
        """Speak through a new stream.

        Args:
            outbox: of the stream.
            run: of the coordinator at its other end.
            dropped: rows that it does not want.
        """
        for name in dropped:
            self._forget((name.request_id, name.attempt))
        self._outbox, self._run = outbox, run
        for row_id, row in self._held.items():
            row.run = run
            if row.end is not None:
                outbox.put(row.end)
            elif row.started is not None and not row.told:
                outbox.put(_started(row_id, row.started))
                row.told = True

    def part(self, *, keep: bool) -> None:
        """Note that the stream has ended; without `keep` the rows end with it."""
        self._outbox = None
        now_s = self._clock.now()
        for row_id, row in tuple(self._held.items()):
            if not keep:
                self._forget(row_id)
            elif row.sent_s is None or row.settled:
                continue
            elif now_s - row.sent_s < DOUBT_S:
                row.sent_s = None

    def settled(self) -> None:
        """Note that the coordinator has read and passed on what it was sent.

        The ends are kept as others are: it may come back, and clients may ask again.
        """
        for row in self._held.values():
            row.settled = row.sent_s is not None

    def sent(self, message: cluster_pb2.JoinRequest) -> None:
        """Note that a message was written to the stream."""
        event = message.event
        row = self._held.get((event.request_id, event.attempt))
        if row is not None and row.end is message:
            row.sent_s, row.settled = self._clock.now(), False
            self._tidy()

    # -- rows -----------------------------------------------------------------------------------

    def take(self, work: cluster_pb2.Work) -> None:
        """Hand a row to the engine, or tell the coordinator why not."""
        row_id = (work.request_id, work.attempt)
        self._traces.begin(work)
        fetch: Fetch | None = None

        def listen(event: RowEvent) -> None:
            if isinstance(event, RowStates):
                if self._cache is not None:
                    self._cache.keep(work.keep_key, work.tenant, work.steps, event.latents)
                return
            # The loop is closed when an engine thread outlives a daemon that is going down.
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._note, row_id, row, event, fetch)

        row = _Held(work, self._run, self._clock.now())
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
            self._refuse(row_id, refusal(error))
        except Exception as error:
            # One strange request must not take the node down, and the next one, and the next.
            extra = {"request_id": work.request_id, "attempt": work.attempt}
            log.exception("a row could not be taken", extra=extra)
            self._refuse(row_id, RowFailed(FailureReason.INTERNAL, str(error)))
        else:
            self._held[row_id] = row
            self._running += 1
            self.idle.clear()

    def cancel(self, request_id: str, attempt: int) -> None:
        """Give a row up at its next step; how it ended is not kept."""
        if not self._engine.cancel(request_id, attempt):
            row = self._held.get((request_id, attempt))
            if row is not None and row.end is not None:
                del self._held[request_id, attempt]

    def _note(self, row_id: RowId, row: _Held, event: Reported, fetch: Fetch | None) -> None:
        """Take in what the engine says of a row, and pass it on if there is a stream."""
        if isinstance(event, RowStep) and not self._is_news(row, event):
            row.step = event_message(*row_id, event).event.step
            return
        self._traces.note(row_id, event)
        message = event_message(*row_id, event)
        known = self._held.get(row_id) is row
        if isinstance(event, RowDone | RowFailed):
            self._ended()
            if known and _is_cancelled(event):
                del self._held[row_id]
            elif known:
                row.end = message
        elif isinstance(event, RowStarted):
            if event.skipped and fetch and fetch.found:
                message.event.started.state_tier = fetch.found.tier
                message.event.started.state_s = fetch.found.seconds
            row.started = message.event.started
            row.told = self._outbox is not None
        elif message.event.HasField("step"):
            row.step = message.event.step
        if known:
            self._say(message)
            self._tidy()

    def _is_news(self, row: _Held, event: RowStep) -> bool:
        """Whether a step is told of: the last one always, others not too often."""
        now_s = self._clock.now()
        last_s = row.told_step_s
        if event.step < event.steps and last_s is not None and now_s - last_s < TELL_EVERY_S:
            return False
        row.told_step_s = now_s
        return True

    def _refuse(self, row_id: RowId, failed: RowFailed) -> None:
        """Tell the coordinator why a row was not taken."""
        self._traces.note(row_id, failed)
        self._say(event_message(*row_id, failed))

    def _say(self, message: cluster_pb2.JoinRequest) -> None:
        if self._outbox is not None:
            self._outbox.put(message)

    def _forget(self, row_id: RowId) -> None:
        """Give a row up; nobody is told of it any more."""
        if self._held.pop(row_id, None) is not None:
            self._engine.cancel(*row_id)

    def _ended(self) -> None:
        self._running -= 1
        if not self._running:
            self.idle.set()

    def _tidy(self) -> None:
        """Let go of ends that are too old, too many or too large."""
        now_s = self._clock.now()
        ended = [(row_id, row) for row_id, row in self._held.items() if row.end is not None]
        # Those that no coordinator has been sent come last: they are the only copies.
        ended.sort(key=lambda x: float("inf") if x[1].sent_s is None else x[1].sent_s)
        held_bytes, count = sum(row.bytes for _, row in ended), len(ended)
        for row_id, row in ended:
            old = row.sent_s is not None and now_s - row.sent_s > self._kept_s
            if not old and held_bytes <= self._kept_bytes and count <= MOST_ENDS:
                return
            if row.sent_s is None and self._outbox is not None:
                return  # it waits in the outbox, which has a bound of its own
            if row.sent_s is None:
                log.warning("a finished row is let go: too many wait for a coordinator")
            del self._held[row_id]
            held_bytes, count = held_bytes - row.bytes, count - 1


def _is_cancelled(event: RowDone | RowFailed) -> bool:
    return isinstance(event, RowFailed) and event.reason is FailureReason.CANCELLED


def _started(row_id: RowId, started: cluster_pb2.WorkStarted) -> cluster_pb2.JoinRequest:
    event = cluster_pb2.WorkEvent(request_id=row_id[0], attempt=row_id[1], started=started)
    return cluster_pb2.JoinRequest(event=event)


def _whole(request: ResolvedRequest) -> ResolvedRequest:
    """Return the row as a node without a cache runs it: every step, and nothing kept."""
    return replace(request, skip=0, checkpoints=request.checkpoints if request.keep_key else ())
