"""Decoding a large picture tile by tile, for when its whole would not fit into memory.

diffusers' VAEs can tile, too, but as a mode of the module that the next call would inherit, in
tiles as large as the native picture, and for AutoencoderTiny at a stride of 8 only.
"""

from __future__ import annotations

from collections.abc import Callable

import torch


def decode_tiled(
    decode: Callable[[torch.Tensor], torch.Tensor], latents: torch.Tensor, tile: int, scale: int
) -> torch.Tensor:
    """Decode overlapping tiles and blend them with linear ramps.

    Args:
        decode: from latents (n, channels, h, w) to pictures (n, 3, scale * h, scale * w).
        latents: (n, channels, height, width).
        tile: latents that a tile is wide and high; a quarter of them lies under the next.
        scale: pixels for one latent.

    Returns:
        (n, 3, scale * height, scale * width), float32.
    """
    height, width = latents.shape[-2:]
    overlap = tile // 4
    total = latents.new_zeros((len(latents), 3, height * scale, width * scale), dtype=torch.float32)
    weight = total.new_zeros((1, 1, *total.shape[-2:]))
    for top in starts(height, tile, overlap):
        for left in starts(width, tile, overlap):
            part = latents[..., top : top + tile, left : left + tile]
            rows, columns = (
                _ramp(size * scale, overlap * scale, at > 0, at + size < whole, total)
                for size, at, whole in (
                    (part.shape[-2], top, height),
                    (part.shape[-1], left, width),
                )
            )
            mask = rows[:, None] * columns[None, :]
            place = (
                ...,
                slice(top * scale, (top + part.shape[-2]) * scale),
                slice(left * scale, (left + part.shape[-1]) * scale),
            )
            total[place] += mask * decode(part).float()
            weight[place] += mask
    return total / weight


def starts(length: int, tile: int, overlap: int) -> list[int]:
    """Return where tiles begin so that they cover `length` and all have the full size, if it has.

    The last one is moved back to end with the picture, so no tile is a sliver.
    """
    if length <= tile:
        return [0]
    return [*range(0, length - tile, tile - overlap), length - tile]


def _ramp(length: int, overlap: int, rises: bool, falls: bool, like: torch.Tensor) -> torch.Tensor:
    """Return the weights (length,) of a tile's rows or columns: less toward a neighbour."""
    weights = like.new_ones(length)
    slope = (torch.arange(overlap, device=like.device, dtype=like.dtype) + 0.5) / overlap
    if rises:
        weights[:overlap] *= slope
    if falls:
        weights[-overlap:] *= slope.flip(0)
    return weights
