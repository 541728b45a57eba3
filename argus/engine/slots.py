"""Slots: preallocated homes of the rows' tensors, gathered and scattered by index."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from argus.diffusion.adapter import GUIDANCE, Conditioning
from argus.diffusion.tables import CLEAN, LATENTS
from argus.engine.row import BatchKey

FEWEST_STATES = 2
"""x and m: what every sampler keeps."""


def allocate_conditioning(
    rows: int, shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype, device: torch.device
) -> dict[str, torch.Tensor]:
    """Return zeros (rows, …) for every tensor of an adapter's `conditioning`, in its dtype."""
    return {
        name: torch.zeros(
            (rows, *shape), dtype=torch.float32 if name == GUIDANCE else dtype, device=device
        )
        for name, shape in shapes.items()
    }


class SlotPool:
    """The tensors of all rows with one batch key.

    Slot `size` is the padding slot: its latents are zero and whatever is computed from it is
    thrown away, so padding lanes are inert.

    Attributes:
        states: float32 (S, size + 1, channels, height, width), the state of every slot's sampler;
            see `argus.diffusion.tables`. S grows when a sampler that keeps more comes along.
        conditioning: encoded texts by name; row 2s is the negative of slot s, 2s + 1 its prompt.
    """

    def __init__(
        self,
        key: BatchKey,
        size: int,
        conditioning: Mapping[str, tuple[int, ...]],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.key = key
        self.size = size
        self.states = torch.zeros((FEWEST_STATES, size + 1, *key.latent), device=device)
        self.conditioning = allocate_conditioning(2 * (size + 1), conditioning, dtype, device)
        self._free = list(range(size - 1, -1, -1))

    @property
    def latents(self) -> torch.Tensor:
        """Latents before the next step, (size + 1, channels, height, width)."""
        return self.states[LATENTS]

    @property
    def clean(self) -> torch.Tensor:
        """Clean latents predicted by the last step, shaped as `latents`."""
        return self.states[CLEAN]

    @property
    def padding(self) -> int:
        """Index of the padding slot."""
        return self.size

    @property
    def in_use(self) -> int:
        """Slots taken."""
        return self.size - len(self._free)

    def take(self) -> int:
        """Return a free slot; the engine never asks for more than there are."""
        return self._free.pop()

    def give_back(self, slot: int) -> None:
        """Free a slot; the tensors are overwritten by the next row that takes it."""
        if slot in self._free or not 0 <= slot < self.size:
            raise ValueError(f"slot {slot} is not taken")
        self._free.append(slot)

    def put(
        self,
        slot: int,
        latents: torch.Tensor,
        states: int,
        prompt: Conditioning,
        negative: Conditioning | None,
        guidance: float,
    ) -> None:
        """Fill a slot for a new row.

        Args:
            slot: taken before.
            latents: (channels, height, width), those before the row's first step.
            states: tensors that the row's sampler keeps.
            prompt: the encoded prompt.
            negative: the encoded negative prompt; None for a row that takes one lane.
            guidance: what a model with guidance embedded is told.
        """
        self._grow(states)
        self.states[:, slot] = 0.0
        self.states[LATENTS, slot] = latents
        for name, rows in self.conditioning.items():
            if name == GUIDANCE:
                rows[2 * slot : 2 * slot + 2] = guidance
                continue
            rows[2 * slot + 1].copy_(prompt.tensors[name])
            if negative is not None:
                rows[2 * slot].copy_(negative.tensors[name])

    def _grow(self, states: int) -> None:
        more = states - len(self.states)
        if more > 0:
            self.states = torch.cat(
                [self.states, self.states.new_zeros((more, *self.states.shape[1:]))]
            )
