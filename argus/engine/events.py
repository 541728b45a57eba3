"""What the engine says of a row while it makes its image."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class FailureReason(enum.Enum):
    """Why a row ended without an image."""

    INVALID = "invalid"
    LATE = "late"
    FULL = "full"
    INTERNAL = "internal"
    CANCELLED = "cancelled"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class RowStarted:
    """The first step is about to run, `waited_s` after the row was submitted.

    `skipped` steps are not run, since the row starts from the latents of another.
    """

    waited_s: float
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class RowStep:
    """`step` of `steps` is done; the forward held `lanes` lanes, padding not counted.

    `steps` falls when the rest of the row is spaced anew.
    """

    step: int
    steps: int
    lanes: int


@dataclass(frozen=True, slots=True)
class RowPreview:
    """The clean image predicted at `step`, as JPEG bytes."""

    step: int
    data: bytes


@dataclass(frozen=True, slots=True)
class RowStates:
    """The latents before each checkpoint that was asked for, of a row that ran every step.

    Each is float32 (channels, height, width) on the CPU and belongs to the listener.
    """

    latents: Mapping[int, torch.Tensor]


@dataclass(frozen=True, slots=True)
class RowWarning:
    """Something worth knowing that does not stop the row."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class RowDone:
    """The encoded image; `running_s` since the first step, `max_lanes` the fullest forward.

    `forwards` were run; `skipped` steps were not, since a state stood for them.
    """

    data: bytes
    running_s: float
    max_lanes: int
    forwards: int = 0
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class RowFailed:
    """No image will come."""

    reason: FailureReason
    message: str


RowEvent = RowStarted | RowStep | RowPreview | RowStates | RowWarning | RowDone | RowFailed
Listener = Callable[[RowEvent], None]
"""Called from the engine's threads: must return quickly and must not raise."""
