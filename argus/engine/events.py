"""What the engine says of a row while it makes its image."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass


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
    """The first step is about to run, `waited_s` after the row was submitted."""

    waited_s: float


@dataclass(frozen=True, slots=True)
class RowStep:
    """`step` of `steps` is done; the forward held `lanes` lanes, padding not counted."""

    step: int
    steps: int
    lanes: int


@dataclass(frozen=True, slots=True)
class RowPreview:
    """The clean image predicted at `step`, as JPEG bytes."""

    step: int
    data: bytes


@dataclass(frozen=True, slots=True)
class RowWarning:
    """Something worth knowing that does not stop the row."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class RowDone:
    """The encoded image; `running_s` since the first step, `max_lanes` the fullest forward."""

    data: bytes
    running_s: float
    max_lanes: int


@dataclass(frozen=True, slots=True)
class RowFailed:
    """No image will come."""

    reason: FailureReason
    message: str


RowEvent = RowStarted | RowStep | RowPreview | RowWarning | RowDone | RowFailed
Listener = Callable[[RowEvent], None]
"""Called from the engine's threads: must return quickly and must not raise."""
