"""The device thread: gives slots, chooses batches, steps them, hands finished rows on."""

from __future__ import annotations

import logging
import threading

import torch

from argus.clock import Clock
from argus.engine.decode import DecodeJob, DecodeQueue
from argus.engine.events import FailureReason, RowFailed, RowStarted, RowStep
from argus.engine.pace import Pace, StepDone
from argus.engine.pools import Pools
from argus.engine.registry import Registry
from argus.engine.residency import Residency
from argus.engine.residents import Resident, Residents
from argus.engine.respace import affordable, space_anew
from argus.engine.row import BatchKey, Row, RowState
from argus.engine.schedule import next_batch
from argus.engine.slots import SlotPool
from argus.engine.states import SavedLatents
from argus.engine.stats import StatsRecorder
from argus.engine.step import run_step

log = logging.getLogger(__name__)

IDLE_WAIT_S = 0.25
"""An idle device thread wakes this often to show that it is alive."""
ONE_GUIDED_ROW = 2
"""Lanes."""
JOINS_AT_A_TIME = 4
"""Rows that are given slots between two steps while others run."""
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
        self._version = residents.version
        self.pace = Pace(recorder.step_time)
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
        if self._residents.version != self._version:
            self._version = self._residents.version
            self._pools.forget({r.load for r in self._residents.snapshot().values()})
        rows = [row for row in self._registry.rows() if not self._reap(row)]
        waiting = [row for row in rows if row.state is RowState.WAITING]
        if waiting:
            self._serve(waiting)
            self._admit(waiting, busy=len(rows) > len(waiting))
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

    def _max_lanes(self, key: BatchKey) -> int:
        return self._residents[key.variant].max_lanes(key.latent)

    def _step_s(self, key: BatchKey, lanes: int) -> float:
        return self._residents[key.variant].step_s(key.latent, lanes) * self.pace.slowness

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
            failure = self._residents.failure(row.key.variant, row.key.load)
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

    def _admit(self, waiting: list[Row], busy: bool) -> None:
        """Give free slots to waiting rows, the most urgent first.

        Rows being decoded count until their image is out, so that steps cannot run ahead of
        decoding without bound. While rows run only some are taken at a time, for their texts are
        encoded between two steps.
        """
        taken = sum(s in {RowState.RUNNING, RowState.DECODING} for s in self._registry.states())
        room = min(self._slots - self._pools.in_use, 2 * self._slots - taken)
        room = min(room, JOINS_AT_A_TIME) if busy else room
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
                extra = {"request_id": row.request.request_id}
                log.exception("a row could not be placed", extra=extra)
                self._fail(row, f"it could not be placed: {error}")
                _raise_if_broken(error)
            else:
                self._registry.enter(row, RowState.RUNNING)

    def _respace(self, row: Row) -> None:
        """Space the rest of a row anew where that was asked for, or where it would be late."""
        asked = row.spaced_to is not None or row.request.fewest_forwards
        if not asked or row.resident is None or not row.between_steps:
            return
        target = row.spaced_to
        if target is None:
            step_s = self._step_s(row.key, max(row.lanes, self._recorder.lanes))
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
            if row.started_s is None:
                row.started_s = self._clock.now()
                row.tell(RowStarted(row.started_s - row.submitted_s, row.skipped))
        self.pace.begin()
        try:
            self._save(batch, pool)
            run_step(resident.forwards, pool, batch, resident.buckets.size_for(lanes))
            predicted_s = resident.step_s(pool.key.latent, lanes)
            self.pace.end(resident.home, StepDone(resident.name, lanes, predicted_s))
        except torch.OutOfMemoryError as error:
            self._narrow(resident, batch, lanes, error)
            return
        except Exception as error:
            self._step_failed(resident, batch, lanes, error)
            return
        self._failures = 0
        self._recorder.step(lanes)
        for row in batch:
            row.max_lanes = max(row.max_lanes, lanes)
            row.tell(RowStep(row.steps_done, row.forwards, lanes))
            self._after_step(row, resident, pool)

    def _after_step(self, row: Row, resident: Resident, pool: SlotPool) -> None:
        """Hand a finished row over to decoding, or show what another looks like."""
        try:
            if row.steps_left == 0:
                self._registry.enter(row, RowState.DECODING)
                self._queue_decode(row, resident, pool.latents[row.slot], 0)
                self._pools.free(row)
            elif row.wants_preview():
                row.preview_pending = True
                self._queue_decode(row, resident, pool.clean[row.slot], row.steps_done)
        except torch.OutOfMemoryError as error:
            log.exception("latents could not be handed to the decoder")
            row.preview_pending = False
            if row.steps_left == 0:
                self._fail(row, f"its latents could not be decoded: {error}")

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
        """Go on with smaller batches of that shape after one that memory does not hold."""
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        smaller = [n for n in resident.buckets.sizes if ONE_GUIDED_ROW <= n < lanes]
        if len(batch) == 1 or not smaller:
            for row in batch:
                self._fail(row, f"{_what(row, lanes)}: {error}")
            return
        latent = batch[0].key.latent
        resident.limits[latent] = smaller[-1]
        log.warning("%s at %s: at most %d lanes now", resident.name, latent, smaller[-1])

    def _step_failed(
        self, resident: Resident, batch: list[Row], lanes: int, error: Exception
    ) -> None:
        """Try a failed step again in halves, so that it ends only the row that is to blame.

        A broken device fails every step at once and would draw all traffic, so after some
        failures in a row the thread dies, and with it the daemon, whose rows go elsewhere.
        """
        log.exception("%s: a step of %d lanes failed", resident.name, lanes)
        _raise_if_broken(error)
        if len(batch) > 1:
            middle = len(batch) // 2
            self._step(batch[:middle])
            self._step(batch[middle:])
            return
        self._fail(batch[0], f"{_what(batch[0], lanes)}: {error}")
        self._failures += 1
        if self._failures >= FAILURES_IN_A_ROW:
            raise RuntimeError("the device fails every step") from error

    def _fail(self, row: Row, message: str) -> None:
        failed = RowFailed(FailureReason.INTERNAL, message)
        self._registry.end(row, RowState.FAILED, failed)

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

        # What was proven at the native size need not hold at others.
        batch = resident.decode_batch if row.key.latent == resident.native else 1
        job = DecodeJob(row, resident.adapter, copy, preview_step, batch, ready, release)
        self._decoder.submit(job)


def _what(row: Row, lanes: int) -> str:
    """Return what was tried when something failed, for people."""
    wanted = row.request
    return (
        f"{wanted.variant} {wanted.width}x{wanted.height}, forward {row.steps_done + 1} of "
        f"{row.forwards}, {lanes} lanes"
    )


def _raise_if_broken(error: Exception) -> None:
    """Raise where the device itself is gone, so that the thread dies."""
    if isinstance(error, torch.AcceleratorError):
        raise RuntimeError("the device is broken") from error
