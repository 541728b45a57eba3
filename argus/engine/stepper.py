"""The device thread: gives slots, chooses batches, steps them, hands finished rows on."""

from __future__ import annotations

import logging
import threading

import torch

from argus.clock import Clock
from argus.engine.decode import DecodeJob, DecodeQueue
from argus.engine.events import FailureReason, RowFailed, RowStarted, RowStep
from argus.engine.pace import Pace
from argus.engine.pools import Pools
from argus.engine.registry import Registry
from argus.engine.residency import Residency
from argus.engine.residents import Resident, Residents
from argus.engine.respace import affordable, space_anew
from argus.engine.row import Row, RowState
from argus.engine.schedule import next_batch
from argus.engine.slots import SlotPool
from argus.engine.states import SavedLatents
from argus.engine.stats import StatsRecorder
from argus.engine.step import run_step

log = logging.getLogger(__name__)

IDLE_WAIT_S = 0.25
"""An idle device thread wakes this often to show that it is alive."""
FAILURES_IN_A_ROW = 3
"""Failed steps, with none that worked between, after which the device is given up."""


class Stepper:
    """What the device thread does, turn by turn. `alive` and `stop` are for any thread."""

    def __init__(
        self,
        registry: Registry,
        pools: Pools,
        residents: Residents,
        residency: Residency,
        decoder: DecodeQueue,
        recorder: StatsRecorder,
        slots: int,
        clock: Clock,
    ) -> None:
        self._registry = registry
        self._pools = pools
        self._residents = residents
        self._residency = residency
        self._decoder = decoder
        self._recorder = recorder
        self._slots = slots
        self._clock = clock
        self._stopping = False
        self._failures = 0
        self.pace = Pace()
        self._copies: dict[torch.device, torch.cuda.Stream] = {}
        self._thread = threading.Thread(target=self._run, name="argus-device", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the device thread runs."""
        return self._thread.is_alive()

    def stop(self, timeout_s: float) -> None:
        """End the thread; the rows that are left fail as draining."""
        self._stopping = True
        self._registry.poke()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            with torch.inference_mode():
                while not self._stopping:
                    self._turn()
        except Exception:
            log.exception("the device thread died")
            reason, message = FailureReason.INTERNAL, "the device thread died"
        else:
            reason, message = FailureReason.DRAINING, "the node is leaving"
        self._registry.shut()
        for row in self._registry.rows():
            self._registry.end(row, RowState.FAILED, RowFailed(reason, message))

    def _turn(self) -> None:
        """Do one step, or wait for something to do."""
        self._recorder.alive()
        rows = [row for row in self._registry.rows() if not self._reap(row)]
        waiting = [row for row in rows if row.state is RowState.WAITING]
        if waiting:
            self._serve(waiting)
            self._admit(waiting)
        running = [row for row in rows if row.state is RowState.RUNNING]
        for row in running:
            self._respace(row)
        batch = next_batch(running, self._max_lanes, self._clock.now(), self._step_s)
        if batch:
            self._step(batch)
            return
        self.pace.idle()
        self._recorder.idle()
        self._registry.wait(self._patience_s(waiting))

    def _patience_s(self, waiting: list[Row]) -> float:
        """Return how long the thread may sleep: not beyond the moment a state is given up."""
        now_s = self._clock.now()
        ends = [row.start.until_s - now_s for row in waiting if row.start is not None]
        return max(0.001, min([IDLE_WAIT_S, *(end for end in ends if end > 0)]))

    def _max_lanes(self, variant: str) -> int:
        return self._residents[variant].widest

    def _step_s(self, variant: str, lanes: int) -> float:
        return self._residents[variant].costs.steps.step_s(lanes) * self.pace.slowness

    def _reap(self, row: Row) -> bool:
        """End a row that was cancelled, is late or has lost its variant; return if it is gone."""
        if row.cancelled:
            gone = RowFailed(FailureReason.CANCELLED, "cancelled")
            self._registry.end(row, RowState.CANCELLED, gone)
            return True
        if row.deadline_s is not None and self._clock.now() > row.deadline_s:
            late = RowFailed(FailureReason.LATE, "the deadline passed on the node")
            self._registry.end(row, RowState.FAILED, late)
            return True
        if row.state is RowState.WAITING:
            failure = self._residents.failure(row.key.variant)
            if failure is not None:
                lost = RowFailed(FailureReason.INTERNAL, failure)
                self._registry.end(row, RowState.FAILED, lost)
                return True
        return False

    # -- slots -------------------------------------------------------------------------------

    def _serve(self, waiting: list[Row]) -> None:
        """Let variants be moved for the rows that wait for them."""
        due: dict[str, float] = {}
        for row in waiting:
            due[row.key.variant] = min(row.due_s, due.get(row.key.variant, row.due_s))
        self._residency.serve(due)

    def _admit(self, waiting: list[Row]) -> None:
        """Give free slots to waiting rows, the most urgent first.

        Rows being decoded count until their image is out, so that steps cannot run ahead of
        decoding without bound.
        """
        taken = sum(s in {RowState.RUNNING, RowState.DECODING} for s in self._registry.states())
        room = min(self._slots - self._pools.in_use, 2 * self._slots - taken)
        now_s = self._clock.now()
        for row in sorted(waiting, key=lambda row: (row.due_s, row.submitted_s)):
            if room <= 0:
                return
            if row.start is not None and not row.start.settled(now_s):
                continue
            resident = self._residents.claim(row.key.variant)
            if resident is None:
                continue
            row.resident = resident
            room -= 1
            if resident.home.type == "cuda":
                torch.cuda.set_device(resident.home)  # of this thread
            try:
                self._pools.place(row, resident.adapter)
            except Exception as error:
                self._failed([row], error)
            else:
                self._registry.enter(row, RowState.RUNNING)

    def _respace(self, row: Row) -> None:
        """Space the rest of a row anew where that was asked for, or where it would be late."""
        if row.resident is None or not row.between_steps:
            return
        target = row.spaced_to
        if target is None:
            step_s = self._step_s(row.key.variant, max(row.lanes, self._recorder.lanes))
            decode_s = row.resident.costs.decode_s * self.pace.slowness
            target = affordable(row, self._clock.now(), step_s, decode_s)
        row.spaced_to = None
        if target is not None and target < row.steps_left:
            space_anew(row, row.resident.adapter, target)

    # -- steps -------------------------------------------------------------------------------

    def _step(self, batch: list[Row]) -> None:
        """Step the batch, tell its rows, and pass finished ones on to decoding."""
        resident = self._residents[batch[0].key.variant]
        pool = self._pools.of(batch[0])
        lanes = sum(row.lanes for row in batch)
        for row in batch:
            if not row.started_s:
                row.started_s = self._clock.now()
                row.tell(RowStarted(row.started_s - row.submitted_s, row.skipped))
        self.pace.begin()
        try:
            self._save(batch, pool)
            run_step(resident.forwards, pool, batch, resident.buckets.size_for(lanes))
            self.pace.end(resident.home, resident.costs.steps.step_s(lanes))
        except torch.OutOfMemoryError as error:
            self._narrow(resident, batch, lanes, error)
            return
        except Exception as error:
            self._failed(batch, error)
            return
        self._failures = 0
        self._recorder.step(lanes)
        for row in batch:
            row.max_lanes = max(row.max_lanes, lanes)
            row.tell(RowStep(row.steps_done, row.forwards, lanes))
            if row.steps_left == 0:
                self._hand_over(row, resident, pool)
            elif row.wants_preview():
                row.preview_pending = True
                self._queue_decode(row, resident, pool.clean[row.slot], row.steps_done)

    def _save(self, batch: list[Row], pool: SlotPool) -> None:
        """Keep copies of the latents of rows that are before one of their checkpoints."""
        for row in batch:
            step = row.checkpoint_due()
            if step is not None:
                row.saved[step] = SavedLatents(pool.latents[row.slot], self._copy_stream(pool))

    def _copy_stream(self, pool: SlotPool) -> torch.cuda.Stream | None:
        device = pool.states.device
        if device.type != "cuda":
            return None
        if device not in self._copies:
            self._copies[device] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        return self._copies[device]

    def _narrow(
        self, resident: Resident, batch: list[Row], lanes: int, error: torch.OutOfMemoryError
    ) -> None:
        """Go on with smaller batches after one that was too large for the device's memory."""
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        smaller = [n for n in resident.buckets.sizes if n < lanes]
        if len(batch) == 1 or not smaller:
            self._failed(batch, error)
            return
        resident.widest = smaller[-1]
        log.warning("%s: %d lanes do not fit; at most %d now", resident.name, lanes, smaller[-1])

    def _failed(self, rows: list[Row], error: Exception) -> None:
        """End rows whose step failed; give the device up when nothing works any more.

        A broken device fails every step at once and would draw all traffic, so after some
        failures in a row the thread dies, and with it the daemon, whose rows go elsewhere.
        """
        log.exception("a step failed")
        for row in rows:
            failed = RowFailed(FailureReason.INTERNAL, str(error))
            self._registry.end(row, RowState.FAILED, failed)
        self._failures += 1
        broken = isinstance(error, torch.AcceleratorError)
        if broken or self._failures >= FAILURES_IN_A_ROW:
            raise RuntimeError("the device fails every step") from error

    def _hand_over(self, row: Row, resident: Resident, pool: SlotPool) -> None:
        """Free the slot of a finished row and queue its latents for decoding."""
        self._registry.enter(row, RowState.DECODING)
        self._queue_decode(row, resident, pool.latents[row.slot], 0)
        self._pools.free(row)

    def _queue_decode(
        self, row: Row, resident: Resident, latents: torch.Tensor, preview_step: int
    ) -> None:
        ready = None
        copy = latents.clone()
        if copy.is_cuda:
            ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
            ready.record(torch.cuda.current_stream(copy.device))
        self._residents.hold(resident)

        def release() -> None:
            self._residents.release(resident)

        batch = resident.decode_batch
        job = DecodeJob(row, resident.adapter, copy, preview_step, batch, ready, release)
        self._decoder.submit(job)
