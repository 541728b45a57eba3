"""The engine: rows in, events out. One device thread steps, a decode queue finishes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from argus.clock import Clock, MonotonicClock
from argus.diffusion.adapter import PipelineAdapter
from argus.engine.buckets import Buckets, probe_buckets
from argus.engine.decode import DecodeJob, DecodeQueue
from argus.engine.events import (
    FailureReason,
    Listener,
    RowDone,
    RowEvent,
    RowFailed,
    RowPreview,
    RowStarted,
    RowStep,
)
from argus.engine.pools import Pools
from argus.engine.row import BatchKey, Row, RowState
from argus.engine.schedule import next_batch
from argus.engine.slots import SlotPool
from argus.engine.stats import EngineStats, StatsRecorder
from argus.engine.step import run_step
from argus.errors import InvalidArgumentError, NotFoundError, OverloadedError, UnavailableError
from argus.types import ResolvedRequest

log = logging.getLogger(__name__)

IDLE_WAIT_S = 0.25
"""An idle device thread wakes this often to show that it is alive."""
FAILURES_IN_A_ROW = 3
"""Failed steps, with none that worked between, after which the device is given up."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Limits of an engine.

    Attributes:
        slots: rows that can be in flight at once.
        max_lanes: lanes of the widest forward; the probe may settle for fewer.
        max_waiting: rows accepted beyond the slots.
    """

    slots: int = 16
    max_lanes: int = 8
    max_waiting: int = 64


class Engine:
    """A step-level batcher over resident variants.

    Rows join and leave at any step. `submit`, `cancel` and `stats` may be called from any thread;
    listeners are called from the engine's own threads.
    """

    def __init__(
        self,
        adapters: Sequence[PipelineAdapter],
        options: EngineOptions | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.options = options or EngineOptions()
        self._clock = clock or MonotonicClock()
        self.adapters = {adapter.info.name: adapter for adapter in adapters}
        self.buckets: dict[str, Buckets] = {
            name: probe_buckets(adapter, self.options.max_lanes)
            for name, adapter in self.adapters.items()
        }
        self._changed = threading.Condition()
        self._rows: dict[tuple[str, int], Row] = {}
        self._pools = Pools(self.adapters, self.options.slots)
        self._accepting = True
        self._stopping = False
        self._news = False
        self._failures = 0
        self._recorder = StatsRecorder(self._clock)
        self._decoder = DecodeQueue(self._on_decoded, self._on_decode_failed)
        self._thread = threading.Thread(target=self._run, name="argus-device", daemon=True)
        self._thread.start()

    # -- called from any thread ------------------------------------------------------------

    def submit(self, request: ResolvedRequest, listener: Listener) -> None:
        """Take a row; its events go to `listener`, the last one being RowDone or RowFailed.

        Raises:
            NotFoundError: the variant is not resident.
            InvalidArgumentError: a size, sampler or step count that the variant does not allow.
            OverloadedError: slots and waiting room are taken.
            UnavailableError: the engine is draining, or its device thread is dead.
        """
        row = self._make_row(request, listener)
        with self._changed:
            if not self._accepting or not self._thread.is_alive():
                raise UnavailableError("the engine takes no more rows")
            old = self._rows.get(row.id)
            if old is not None and not old.cancelled:
                raise InvalidArgumentError("request_id", f"{row.id[0]!r} is already running")
            if old is not None:
                raise OverloadedError("the row of that name is still being cancelled", 0.1)
            if len(self._rows) >= self.options.slots + self.options.max_waiting:
                raise OverloadedError("the node's waiting room is full", retry_after_s=1.0)
            self._rows[row.id] = row
            self._wake()

    def cancel(self, request_id: str, attempt: int) -> bool:
        """Give a row up at the next step boundary; return False if there is none."""
        with self._changed:
            row = self._rows.get((request_id, attempt))
            if row is None:
                return False
            row.cancelled = True
            self._wake()
            return True

    def stats(self) -> EngineStats:
        """Return what the engine is doing now."""
        with self._changed:
            states = [row.state for row in self._rows.values()]
            return self._recorder.snapshot(
                rows=sum(s in {RowState.RUNNING, RowState.DECODING} for s in states),
                waiting=states.count(RowState.WAITING),
                slots_free=self.options.slots - self._pools.in_use,
                alive=self._thread.is_alive(),
            )

    @property
    def draining(self) -> bool:
        """Whether no more rows are taken."""
        return not self._accepting

    def drain(self) -> None:
        """Take no more rows; those accepted are finished."""
        with self._changed:
            self._accepting = False

    def close(self, timeout_s: float = 10.0) -> None:
        """Stop: rows still in flight fail as draining. Returns when the threads have ended."""
        with self._changed:
            self._accepting = False
            self._stopping = True
            self._wake()
        self._thread.join(timeout_s)
        self._decoder.close()

    def _wake(self) -> None:
        """Tell the device thread that something changed; the lock must be held."""
        self._news = True
        self._changed.notify()

    def _make_row(self, request: ResolvedRequest, listener: Listener) -> Row:
        adapter = self.adapters.get(request.variant)
        if adapter is None:
            raise NotFoundError("variant", request.variant, self.adapters)
        for name, pixels in (("width", request.width), ("height", request.height)):
            multiple = adapter.info.size_multiple
            if pixels < multiple or pixels > adapter.info.max_size or pixels % multiple:
                raise InvalidArgumentError(
                    name,
                    f"must be a multiple of {multiple} from {multiple} to "
                    f"{adapter.info.max_size}, not {pixels}",
                )
        key = BatchKey(request.variant, adapter.latent_shape(request.width, request.height))
        table = adapter.step_table(request.sampler, request.steps, request.width, request.height)
        embedded = adapter.info.guidance_embedded
        return Row(request, listener, key, table, self._clock.now(), embedded)

    # -- the device thread -----------------------------------------------------------------

    def _run(self) -> None:
        try:
            with torch.inference_mode():
                self._use_device()
                while self._turn():
                    pass
        except Exception:
            log.exception("the device thread died")
            reason, message = FailureReason.INTERNAL, "the device thread died"
        else:
            reason, message = FailureReason.DRAINING, "the node is leaving"
        with self._changed:
            self._accepting = False
            left = list(self._rows.values())
        for row in left:
            self._end(row, RowState.FAILED, RowFailed(reason, message))

    def _use_device(self) -> None:
        """Make the adapters' CUDA device this thread's current one, which is thread-local."""
        for adapter in self.adapters.values():
            if adapter.device.type == "cuda":
                torch.cuda.set_device(adapter.device)

    def _turn(self) -> bool:
        """Do one step, or wait for something to do; return False when it is time to stop."""
        self._recorder.alive()
        with self._changed:
            if self._stopping:
                return False
            self._news = False
            rows = list(self._rows.values())
        rows = [row for row in rows if not self._reap(row)]
        self._admit([row for row in rows if row.state is RowState.WAITING])
        running = [row for row in rows if row.state is RowState.RUNNING]
        now = self._clock.now()
        batch = next_batch(running, self._max_lanes, now, self._step_s)
        if batch:
            self._step(batch)
            return True
        with self._changed:
            self._recorder.idle()
            # News that came since the rows were read must not be slept through.
            if not self._news:
                self._changed.wait(IDLE_WAIT_S)
        return True

    def _max_lanes(self, variant: str) -> int:
        return self.buckets[variant].max_lanes

    def _step_s(self, variant: str, lanes: int) -> float:
        return self.buckets[variant].costs.step_s(lanes)

    def _reap(self, row: Row) -> bool:
        """End a row that was cancelled or is late; return whether it is gone."""
        if row.cancelled:
            gone = RowFailed(FailureReason.CANCELLED, "cancelled")
            self._end(row, RowState.CANCELLED, gone)
            return True
        if row.deadline_s is not None and self._clock.now() > row.deadline_s:
            late = RowFailed(FailureReason.LATE, "the deadline passed on the node")
            self._end(row, RowState.FAILED, late)
            return True
        return False

    def _admit(self, waiting: list[Row]) -> None:
        """Give free slots to waiting rows, the most urgent first.

        Rows being decoded count until their image is out, so that steps cannot run ahead of
        decoding without bound.
        """
        with self._changed:
            taken = sum(
                row.state in {RowState.RUNNING, RowState.DECODING} for row in self._rows.values()
            )
        room = min(self.options.slots - self._pools.in_use, 2 * self.options.slots - taken)
        waiting.sort(key=lambda row: (row.due_s, row.submitted_s))
        for row in waiting[: max(0, room)]:
            try:
                self._pools.place(row)
            except Exception as error:
                self._failed([row], error)
            else:
                with self._changed:
                    row.state = RowState.RUNNING

    def _failed(self, rows: list[Row], error: Exception) -> None:
        """End rows whose step failed; give the device up when nothing works any more.

        A broken device fails every step at once and would draw all traffic, so after some
        failures in a row the thread dies, and with it the daemon, whose rows go elsewhere.
        """
        log.exception("a step failed")
        for row in rows:
            self._end(row, RowState.FAILED, RowFailed(FailureReason.INTERNAL, str(error)))
        self._failures += 1
        broken = isinstance(error, torch.AcceleratorError)
        if broken or self._failures >= FAILURES_IN_A_ROW:
            raise RuntimeError("the device fails every step") from error

    def _step(self, batch: list[Row]) -> None:
        """Step the batch, tell its rows, and pass finished ones on to decoding."""
        key = batch[0].key
        adapter, pool = self.adapters[key.variant], self._pools.of(batch[0])
        lanes = sum(row.lanes for row in batch)
        for row in batch:
            if row.position == 0:
                row.started_s = self._clock.now()
                row.tell(RowStarted(row.started_s - row.submitted_s))
        try:
            run_step(adapter, pool, batch, self.buckets[key.variant].size_for(lanes))
        except Exception as error:
            self._failed(batch, error)
            return
        self._failures = 0
        self._recorder.step(lanes)
        for row in batch:
            row.max_lanes = max(row.max_lanes, lanes)
            row.tell(RowStep(row.position, row.table.forwards, lanes))
            if row.steps_left == 0:
                self._hand_over(row, adapter, pool)
            elif row.wants_preview():
                row.preview_pending = True
                self._queue_decode(row, adapter, pool.clean[row.slot], row.position)

    def _hand_over(self, row: Row, adapter: PipelineAdapter, pool: SlotPool) -> None:
        """Free the slot of a finished row and queue its latents for decoding."""
        with self._changed:
            row.state = RowState.DECODING
        self._queue_decode(row, adapter, pool.latents[row.slot], 0)
        self._pools.free(row)

    def _queue_decode(
        self, row: Row, adapter: PipelineAdapter, latents: torch.Tensor, preview_step: int
    ) -> None:
        ready = None
        copy = latents.clone()
        if copy.is_cuda:
            ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
            ready.record(torch.cuda.current_stream(copy.device))
        self._decoder.submit(DecodeJob(row, adapter, copy, preview_step, ready))

    # -- called from the decode queue's threads ----------------------------------------------

    def _on_decoded(self, job: DecodeJob, data: bytes) -> None:
        row = job.row
        if job.preview_step:
            row.preview_pending = False
            if not row.state.is_final:
                row.tell(RowPreview(job.preview_step, data))
            return
        running_s = self._clock.now() - row.started_s
        self._end(row, RowState.DONE, RowDone(data, running_s, row.max_lanes))

    def _on_decode_failed(self, job: DecodeJob, error: Exception) -> None:
        job.row.preview_pending = False
        if not job.preview_step:
            failed = RowFailed(FailureReason.INTERNAL, f"decoding failed: {error}")
            self._end(job.row, RowState.FAILED, failed)

    # -- the one place where rows end --------------------------------------------------------

    def _end(self, row: Row, state: RowState, event: RowEvent) -> None:
        """Bring a row to a final state once: bookkeeping, slot, last event."""
        with self._changed:
            if row.state.is_final:
                return
            row.state = state
            self._rows.pop(row.id, None)
            self._pools.free(row)
            if state is RowState.DONE:
                self._recorder.image()
            self._wake()
        row.tell(event)
