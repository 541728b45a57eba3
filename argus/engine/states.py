"""Latents that come from elsewhere, and latents kept for others."""

from __future__ import annotations

from concurrent.futures import CancelledError, Future
from dataclasses import dataclass

import torch

from argus.errors import ModelError

Latents = torch.Tensor | None
"""(channels, height, width) on the CPU; None: there are none after all."""


@dataclass(frozen=True, slots=True)
class StartState:
    """A promise of the latents before the request's step `skip`.

    Attributes:
        latents: resolved by whoever fetches them; None or an exception is a miss.
        until_s: on the engine's clock; a state that is not there by then is a miss.
    """

    latents: Future[Latents]
    until_s: float

    def settled(self, now_s: float) -> bool:
        """Whether it is known what the row starts from."""
        return self.latents.done() or now_s >= self.until_s

    def take(self, shape: tuple[int, int, int]) -> torch.Tensor:
        """Return the latents.

        Raises:
            ModelError: they are late, lost, of another shape or not finite; says which.
        """
        if not self.latents.done():
            self.latents.cancel()
            raise ModelError("the state came too late")
        try:
            found = self.latents.result()
        except (Exception, CancelledError) as error:
            raise ModelError(f"no state: {str(error) or type(error).__name__}") from error
        if found is None:
            raise ModelError("the state is missing")
        if not isinstance(found, torch.Tensor):
            raise ModelError(f"the state is no tensor but {type(found).__name__}")
        if tuple(found.shape) != shape:
            raise ModelError(f"the state is {tuple(found.shape)}, not {shape}")
        if not bool(torch.isfinite(found).all()):
            raise ModelError("the state is not finite")
        return found


class SavedLatents:
    """A copy of one row's latents on its way to the host.

    On CUDA the copy runs on a stream of its own, behind the step that made the latents and beside
    those that follow.
    """

    def __init__(self, latents: torch.Tensor, stream: torch.cuda.Stream | None) -> None:
        """Start the copy of `latents` (channels, height, width); later changes do not reach it."""
        # Taken on the compute stream, before the next step overwrites the slot.
        own = latents.clone()
        self._ready: torch.cuda.Event | None = None
        if stream is None:
            self._host = own
            return
        self._host = torch.empty(own.shape, dtype=own.dtype, pin_memory=True)
        stream.wait_stream(torch.cuda.current_stream(own.device))
        with torch.cuda.stream(stream):
            self._host.copy_(own, non_blocking=True)
            own.record_stream(stream)
            self._ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._ready.record(stream)

    def wait(self) -> torch.Tensor:
        """Return the latents on the CPU, float32; waits for the copy."""
        if self._ready is not None:
            self._ready.synchronize()
        return self._host
