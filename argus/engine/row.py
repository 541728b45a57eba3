"""A row: one image in flight inside the engine."""

from __future__ import annotations

import enum
import logging
from dataclasses import dataclass, field

import torch

from argus.diffusion.tables import StepTable
from argus.engine.events import Listener, RowEvent
from argus.types import ResolvedRequest, lanes

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
    """Rows with the same key may share a forward. `latent` is (channels, height, width)."""

    variant: str
    latent: tuple[int, int, int]


@dataclass(slots=True, eq=False)
class Row:
    """One image in flight; it owns its step table, position, slot, seed and guidance.

    Times are seconds of the engine's clock. `slot` is -1 while the row holds none.
    """

    request: ResolvedRequest
    listener: Listener
    key: BatchKey
    table: StepTable
    submitted_s: float
    guidance_embedded: bool = False
    state: RowState = RowState.WAITING
    position: int = 0
    slot: int = -1
    started_s: float = 0.0
    max_lanes: int = 0
    cancelled: bool = False
    preview_pending: bool = False
    generator: torch.Generator = field(init=False)

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
    def steps_left(self) -> int:
        """Forwards still to run."""
        return self.table.forwards - self.position

    @property
    def deadline_s(self) -> float | None:
        """When the image must be done, on the engine's clock; None if never."""
        if self.request.deadline_s is None:
            return None
        return self.submitted_s + self.request.deadline_s

    def draw_noise(self, dtype: torch.dtype) -> torch.Tensor:
        """Return the row's next unit normal noise on the CPU, shaped `key.latent`.

        It is drawn as diffusers draws it for `torch.Generator("cpu").manual_seed(seed)`: in the
        model's dtype, for a batch of one. The first call gives the initial noise.
        """
        return torch.randn((1, *self.key.latent), generator=self.generator, dtype=dtype)[0]

    @property
    def due_s(self) -> float:
        """When the row counts as due: its deadline, or a minute after it came if that is earlier.

        A fixed moment, so every row becomes the most urgent one in the end and none starves.
        """
        patience = self.submitted_s + PATIENCE_S
        return patience if self.deadline_s is None else min(self.deadline_s, patience)

    def tell(self, event: RowEvent) -> None:
        """Pass an event to the listener; one that raises must not stop the others' rows."""
        try:
            self.listener(event)
        except Exception:
            log.exception("a listener failed")

    def wants_preview(self) -> bool:
        """Whether a preview is due after the step just done; the last step gives the image.

        One that is still being decoded is not overtaken by the next.
        """
        every = self.request.preview_every
        due = every > 0 and self.position % every == 0 and self.steps_left > 0
        return due and not self.preview_pending
