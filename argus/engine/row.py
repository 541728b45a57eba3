"""A row: one image in flight inside the engine."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

import torch

from argus.diffusion.tables import StepTable
from argus.engine.events import Listener
from argus.types import ResolvedRequest


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
    state: RowState = RowState.WAITING
    position: int = 0
    slot: int = -1
    started_s: float = 0.0
    max_lanes: int = 0
    cancelled: bool = field(default=False)

    @property
    def id(self) -> tuple[str, int]:
        """Request id and attempt: unique within an engine."""
        return self.request.request_id, self.request.attempt

    @property
    def lanes(self) -> int:
        """Lanes taken in a forward."""
        return self.request.lanes

    @property
    def steps_left(self) -> int:
        """Steps still to run."""
        return self.table.steps - self.position

    @property
    def deadline_s(self) -> float | None:
        """When the image must be done, on the engine's clock; None if never."""
        if self.request.deadline_s is None:
            return None
        return self.submitted_s + self.request.deadline_s

    def wants_preview(self) -> bool:
        """Whether a preview is due after the step just done; the last step gives the image."""
        every = self.request.preview_every
        return every > 0 and self.position % every == 0 and self.steps_left > 0


def initial_noise(row: Row, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return the row's first latents, float32 of shape `row.key.latent`.

    The noise is drawn as diffusers draws it for `torch.Generator("cpu").manual_seed(seed)`: on
    the CPU, in the model's dtype, for a batch of one.
    """
    generator = torch.Generator("cpu").manual_seed(row.request.seed)
    noise = torch.randn((1, *row.key.latent), generator=generator, dtype=dtype)
    return noise[0].to(device).float() * row.table.initial_scale
