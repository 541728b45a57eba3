"""From a VAE's output to pixels."""

from __future__ import annotations

import torch


def to_pixels(image: torch.Tensor) -> torch.Tensor:
    """Turn an image (n, 3, height, width) in [-1, 1] into uint8 (n, height, width, 3) on the CPU.

    Rounded as diffusers' image processor does it.

    Raises:
        ArithmeticError: a value is not finite, as when a VAE overflows; it would be a black spot.
    """
    if not bool(torch.isfinite(image).all()):
        raise ArithmeticError("the decoded image is not finite; the VAE may need float32")
    unit = (image.float() * 0.5 + 0.5).clamp(0, 1)
    pixels: torch.Tensor = (unit * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    return pixels.cpu()
