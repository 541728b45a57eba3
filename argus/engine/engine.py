"""The engine: rows in, events out. One device thread steps, a decode queue finishes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

from argus.clock import Clock, MonotonicClock
from argus.diffusion.adapter import PipelineAdapter
from argus.engine.buckets import Buckets
from argus.engine.decode import DecodeJob, DecodeQueue
from argus.engine.events import FailureReason, Listener, RowDone, RowFailed, RowPreview, RowStates
from argus.engine.moves import Order
from argus.engine.options import EngineOptions
from argus.engine.pools import Pools
from argus.engine.registry import Registry
from argus.engine.residency import Load, Residency
from argus.engine.residents import Resident, Residents
from argus.engine.row import BatchKey, Row, RowState
from argus.engine.states import Latents, StartState
from argus.engine.stats import EngineStats, StatsRecorder
from argus.engine.stepper import Stepper
from argus.errors import InvalidArgumentError, UnavailableError
from argus.types import ResolvedRequest

__all__ = ["Engine", "EngineOptions"]

STATE_WAIT_S = 1.0
"""How long a row waits for the state it was promised, unless the caller says otherwise."""


class Engine:
    """A step-level batcher over several variants.

    Rows join and leave at any step. Every method may be called from any thread; listeners are
    called from the engine's own threads.
    """

    def __init__(
        self,
        adapters: Sequence[PipelineAdapter] = (),
        options: EngineOptions | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Start the engine; `adapters` are measured and stay resident for its whole life."""
        self.options = options = options or EngineOptions()
        self._clock = clock or MonotonicClock()
        self._recorder = StatsRecorder(self._clock)
        self._pools = Pools(options.slots)
        self._residents = Residents(self._clock)
        self._residency = Residency(self._residents, options, self._clock, self._poke)
        self._registry = Registry(
            self._pools, self._residents, self._recorder, options.slots + options.max_waiting
        )
        for adapter in adapters:
            self._residency.add(adapter)
        self._decoder = DecodeQueue(self._on_decoded, self._on_decode_failed)
        self._stepper = Stepper(
            self._registry,
            self._pools,
            self._residents,
            self._residency,
            self._decoder,
            self._recorder,
            options.slots,
            self._clock,
        )

    # -- rows --------------------------------------------------------------------------------

    def submit(
        self,
        request: ResolvedRequest,
        listener: Listener,
        state: Future[Latents] | None = None,
        state_wait_s: float = STATE_WAIT_S,
    ) -> None:
        """Take a row; its events go to `listener`, the last one being RowDone or RowFailed.

        Args:
            request: what to run.
            listener: of its events.
            state: for a request with `skip`, the latents before that step: float, (channels,
                height, width), on the CPU. Late, missing or broken, the row runs every step.
            state_wait_s: seconds from now after which the state is late.

        Raises:
            NotFoundError: the variant is not there.
            InvalidArgumentError: a size, sampler, step count, skip or checkpoint that is not
                possible.
            OverloadedError: slots and waiting room are taken.
            UnavailableError: the engine is draining, or its device thread is dead.
        """
        row = self._make_row(request, listener)
        if (state is not None) != (request.skip > 0):
            raise InvalidArgumentError("skip", "needs a state to start from, and a state needs it")
        if state is not None:
            row.start = StartState(state, self._clock.now() + state_wait_s)
        if not (self._stepper.alive and self._decoder.alive):
            raise UnavailableError("the engine takes no more rows")
        self._registry.take(row)
        if state is not None:
            state.add_done_callback(lambda _: self._poke())

    def cancel(self, request_id: str, attempt: int) -> bool:
        """Give a row up at the next step boundary; return False if there is none."""
        row = self._registry.find(request_id, attempt)
        if row is None:
            return False
        row.cancelled = True
        self._poke()
        return True

    def respace(self, request_id: str, attempt: int, forwards_left: int) -> bool:
        """Do the rest of a row in at most that many forwards, from its next step on.

        Return False if there is no such row. A row keeps at least one step; one whose latents are
        being kept for others stops keeping them, since it no longer runs every step.

        Raises:
            InvalidArgumentError: `forwards_left` is below 1.
        """
        if forwards_left < 1:
            raise InvalidArgumentError("forwards_left", f"must be at least 1, not {forwards_left}")
        row = self._registry.find(request_id, attempt)
        if row is None:
            return False
        row.spaced_to = forwards_left
        return True

    # -- variants ----------------------------------------------------------------------------

    @property
    def adapters(self) -> Mapping[str, PipelineAdapter]:
        """The variants by name, resident or parked."""
        return {name: r.adapter for name, r in self._residents.snapshot().items()}

    @property
    def buckets(self) -> Mapping[str, Buckets]:
        """Lane counts of every variant and what they cost."""
        return {name: r.buckets for name, r in self._residents.snapshot().items()}

    @property
    def residents(self) -> Mapping[str, Resident]:
        """Everything known of every variant, for reports."""
        return self._residents.snapshot()

    def load(
        self, folder: Path, weights_bytes: int, load: Load, *, pinned: bool = False
    ) -> Future[Resident]:
        """Load a variant while rows of others go on; see `Residency.load`."""
        return self._residency.load(folder, weights_bytes, load, pinned=pinned)

    def unload(self, name: str) -> None:
        """Forget a variant; see `Residency.unload`."""
        self._residency.unload(name)
        self._poke()

    def move(self, order: Order) -> Future[float]:
        """Bring a variant in or take some out while rows of others go on; see `Residency.move`."""
        return self._residency.move(order)

    def pin(self, name: str, pinned: bool) -> None:
        """Keep a variant on the device, or no longer; see `Residents.pin`."""
        self._residents.pin(name, pinned)

    # -- life --------------------------------------------------------------------------------

    def stats(self) -> EngineStats:
        """Return what the engine is doing now."""
        states = self._registry.states()
        return self._recorder.snapshot(
            rows=sum(s in {RowState.RUNNING, RowState.DECODING} for s in states),
            waiting=states.count(RowState.WAITING),
            slots_free=self.options.slots - self._pools.in_use,
            alive=self._stepper.alive and self._decoder.alive,
            resident=self._residents.on_device(),
            slowness=self._stepper.pace.slowness,
            decode=self._decoder.stats(),
        )

    @property
    def draining(self) -> bool:
        """Whether no more rows are taken."""
        return not self._registry.is_open

    def drain(self) -> None:
        """Take no more rows; those accepted are finished."""
        self._registry.shut()

    def close(self, timeout_s: float = 10.0) -> None:
        """Stop: rows still in flight fail as draining. Returns when the threads have ended."""
        self._registry.shut()
        self._stepper.stop(timeout_s)
        self._decoder.close()
        self._residency.close()

    def _poke(self) -> None:
        self._registry.poke()

    # -- making rows -------------------------------------------------------------------------

    def _make_row(self, request: ResolvedRequest, listener: Listener) -> Row:
        resident = self._residents[request.variant]
        adapter, info = resident.adapter, resident.adapter.info
        for name, pixels in (("width", request.width), ("height", request.height)):
            multiple = info.size_multiple
            if pixels < multiple or pixels > info.max_size or pixels % multiple:
                raise InvalidArgumentError(
                    name,
                    f"must be a multiple of {multiple} from {multiple} to {info.max_size}, "
                    f"not {pixels}",
                )
        _check_steps(request)
        shape = adapter.latent_shape(request.width, request.height)
        what = (request.sampler, request.steps, request.width, request.height)
        table = adapter.step_table(*what, eta=request.eta)
        row = Row(
            request,
            listener,
            BatchKey(request.variant, shape, resident.load),
            table,
            self._clock.now(),
            info.guidance_embedded,
        )
        if request.skip:
            kept = tuple(range(request.skip, request.steps))
            row.table_from_start = adapter.step_table(*what, kept=kept, eta=request.eta)
        return row

    # -- called from the decode queue's threads ----------------------------------------------

    def _on_decoded(self, job: DecodeJob, data: bytes) -> None:
        row = job.row
        if job.preview_step:
            row.preview_pending = False
            if not row.state.is_final:
                row.tell(RowPreview(job.preview_step, data))
            return
        if row.whole and row.saved and not row.state.is_final:
            row.tell(RowStates({step: saved.wait() for step, saved in row.saved.items()}))
        now_s = self._clock.now()
        running_s = now_s - (now_s if row.started_s is None else row.started_s)
        done = RowDone(data, running_s, row.max_lanes, row.steps_done, row.skipped)
        self._registry.end(row, RowState.DONE, done)

    def _on_decode_failed(self, job: DecodeJob, error: Exception) -> None:
        job.row.preview_pending = False
        if not job.preview_step:
            failed = RowFailed(FailureReason.INTERNAL, f"decoding failed: {error}")
            self._registry.end(job.row, RowState.FAILED, failed)


def _check_steps(request: ResolvedRequest) -> None:
    """Raise InvalidArgumentError where skip or checkpoints do not fit the step count."""
    if not 0 <= request.skip < max(1, request.steps):
        raise InvalidArgumentError(
            "skip", f"must be 0 to {request.steps - 1} of {request.steps} steps, not {request.skip}"
        )
    for step in request.checkpoints:
        if not 0 < step < request.steps:
            raise InvalidArgumentError(
                "checkpoints", f"must be 1 to {request.steps - 1}, not {step}"
            )
