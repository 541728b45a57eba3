"""A row: one image in flight inside the engine."""

from __future__ import annotations

import enum
import logging
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from argus.diffusion.tables import StepTable
from argus.engine.events import Listener, RowEvent
from argus.engine.states import SavedLatents, StartState
from argus.types import ResolvedRequest, lanes

if TYPE_CHECKING:
    from argus.engine.residents import Resident

log = logging.getLogger(__name__)

PATIENCE_S = 60.0
"""Seconds after which a row counts as due, whatever its deadline."""


class RowState(enum.Enum):
    """Where a row is. DONE, FAILED and CANCELLED are final."""

    WAITING = "waiting"
    RUNNING = "running"
    DECODING = "decoding"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing will happen to the row any more."""
        return self in {RowState.DONE, RowState.FAILED, RowState.CANCELLED}


@dataclass(frozen=True, slots=True)
class BatchKey:
    """Rows with the same key may share a forward.

    `latent` is (channels, height, width); `load` tells one loading of a variant from the next.
    """

    variant: str
    latent: tuple[int, int, int]
    load: int = 0


@dataclass(slots=True, eq=False)
class Row:
    """One image in flight; it owns its step table, position, slot, seed and guidance.

    Times are seconds of the engine's clock. `slot` is -1 while the row holds none.

    Attributes:
        table: the lines still to run and those run; replaced when the row starts from a state or
            its steps are spaced anew.
        position: lines of `table` that were run.
        done_before: lines run under tables that `table` replaced.
        start: the state to start from, which may still be on its way; None: from noise.
        table_from_start: the table of a row that starts from it.
        resident: the variant, claimed while the row holds a slot or is being decoded.
        spaced_to: forwards that the rest of the row shall be spaced to at the next step.
        whole: whether every step of the schedule is run, from noise.
        saved: latents before the request's checkpoints, by step; of whole rows only.
    """

    request: ResolvedRequest
    listener: Listener
    key: BatchKey
    table: StepTable
    submitted_s: float
    guidance_embedded: bool = False
    start: StartState | None = None
    table_from_start: StepTable | None = None
    resident: Resident | None = None
    state: RowState = RowState.WAITING
    position: int = 0
    done_before: int = 0
    skipped: int = 0
    slot: int = -1
    started_s: float | None = None
    max_lanes: int = 0
    cancelled: bool = False
    preview_pending: bool = False
    spaced_to: int | None = None
    whole: bool = True
    saved: dict[int, SavedLatents] = field(default_factory=dict)
    generator: torch.Generator = field(init=False)
    _noise: tuple[int, torch.Tensor] | None = None
    _ended: bool = False
    _voice: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.generator = torch.Generator("cpu").manual_seed(self.request.seed)

    @property
    def id(self) -> tuple[str, int]:
        """Request id and attempt: unique within an engine."""
        return self.request.request_id, self.request.attempt

    @property
    def lanes(self) -> int:
        """Lanes taken in a forward."""
        wanted = self.request
        return lanes(wanted.guidance, self.guidance_embedded, wanted.true_guidance)

    @property
    def guidance_scale(self) -> float:
        """What the difference between the two lanes is multiplied by."""
        return self.request.true_guidance if self.guidance_embedded else self.request.guidance

    @property
    def rescales(self) -> bool:
        """Whether what guidance gives is rescaled."""
        return self.request.guidance_rescale > 0.0 and self.lanes == 2

    @property
    def steps_left(self) -> int:
        """Forwards still to run."""
        return self.table.forwards - self.position

    @property
    def steps_done(self) -> int:
        """Forwards run."""
        return self.done_before + self.position

    @property
    def forwards(self) -> int:
        """Forwards from the row's start to its end, as planned now."""
        return self.done_before + self.table.forwards

    @property
    def deadline_s(self) -> float | None:
        """When the image must be done, on the engine's clock; None if never."""
        if self.request.deadline_s is None:
            return None
        return self.submitted_s + self.request.deadline_s

    @property
    def due_s(self) -> float:
        """When the row counts as due: its deadline, or a minute after it came if that is earlier.

        A fixed moment, so every row becomes the most urgent one in the end and none starves.
        """
        patience = self.submitted_s + PATIENCE_S
        return patience if self.deadline_s is None else min(self.deadline_s, patience)

    @property
    def between_steps(self) -> bool:
        """Whether the latents are those before a step, not between two looks of one."""
        return self.steps_left > 0 and self.table.starts_step(self.position)

    def checkpoint_due(self) -> int | None:
        """Return the step whose latents are to be kept before the next line is run, or None.

        A row that did not run every step of its schedule keeps none: its latents are not those
        that a full run would have had.
        """
        step = self.table.steps[self.position]
        wanted = step in self.request.checkpoints and step not in self.saved
        return step if wanted and self.whole and self.between_steps else None

    def draw_noise(self, dtype: torch.dtype) -> torch.Tensor:
        """Return the row's next unit normal noise on the CPU, shaped `key.latent`.

        It is drawn as diffusers draws it for `torch.Generator("cpu").manual_seed(seed)`: in the
        model's dtype, for a batch of one. The first call gives the initial noise.
        """
        return torch.randn((1, *self.key.latent), generator=self.generator, dtype=dtype)[0]

    def noise_of_step(self, dtype: torch.dtype) -> torch.Tensor:
        """Return the noise of the line that is due, the same again if that line is tried again."""
        if self._noise is None or self._noise[0] != self.steps_done:
            self._noise = self.steps_done, self.draw_noise(dtype)
        return self._noise[1]

    def skip_steps(self) -> None:
        """Take the table that begins where the row's state does."""
        if self.table_from_start is not None:
            self.table, self.skipped = self.table_from_start, self.request.skip
            self.whole = False

    def replace_table(self, table: StepTable) -> None:
        """Go on with another table, whose first line is due next."""
        self.done_before += self.position
        self.table, self.position = table, 0
        self.whole = False
        self.saved.clear()

    def tell(self, event: RowEvent, *, last: bool = False) -> None:
        """Pass an event to the listener, one at a time and none after the last.

        A listener that raises must not stop the others' rows.
        """
        with self._voice:
            if self._ended:
                return
            self._ended = last
            try:
                self.listener(event)
            except Exception:
                extra = {"request_id": self.request.request_id}
                log.exception("a listener failed", extra=extra)

    def wants_preview(self) -> bool:
        """Whether a preview is due after the step just done; the last step gives the image.

        One that is still being made is not overtaken by the next.
        """
        every = self.request.preview_every
        due = every > 0 and self.steps_done % every == 0 and self.steps_left > 0
        return due and not self.preview_pending
