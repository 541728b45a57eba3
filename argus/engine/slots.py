"""Slots: preallocated homes of the rows' tensors, gathered and scattered by index."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from argus.diffusion.adapter import GUIDANCE, Conditioning
from argus.engine.row import BatchKey


class SlotPool:
    """The tensors of all rows with one batch key.

    Slot `size` is the padding slot: its latents are zero and whatever is computed from it is
    thrown away, so padding lanes are inert.
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
        self.latents = torch.zeros((size + 1, *key.latent), device=device)
        """Float32 latents before the next step."""
        self.clean = torch.zeros((size + 1, *key.latent), device=device)
        """Float32 clean latents predicted by the last step."""
        self.conditioning = {
            name: torch.zeros((2 * (size + 1), *shape), dtype=dtype, device=device)
            for name, shape in conditioning.items()
        }
        """Encoded texts by name: row 2s is the negative of slot s, row 2s + 1 its prompt."""
        self._free = list(range(size - 1, -1, -1))

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
        noise: torch.Tensor,
        prompt: Conditioning,
        negative: Conditioning | None,
        guidance: float,
    ) -> None:
        """Fill a slot for a new row; `negative` is None for a row that takes one lane."""
        self.latents[slot].copy_(noise)
        self.clean[slot].zero_()
        for name, rows in self.conditioning.items():
            if name == GUIDANCE:
                rows[2 * slot : 2 * slot + 2] = guidance
                continue
            rows[2 * slot + 1].copy_(prompt.tensors[name])
            if negative is not None:
                rows[2 * slot].copy_(negative.tensors[name])
