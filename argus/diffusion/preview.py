"""A picture of unfinished latents without the VAE: one linear map from latent to RGB.

What a VAE draws for a latent is roughly linear in it, as far as colour goes, so that a matrix with
as many columns as there are channels is enough for a thumbnail. It is fitted to each variant's own
VAE by least squares: from the latents of synthetic pictures, clean and noisy as unfinished ones
are, to what the VAE's decoder draws for them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

Coder = Callable[[torch.Tensor], torch.Tensor]

SIDE = 16
"""Latents that a fitted picture is wide and high."""
PICTURES = 24
AT_ONCE = 4
"""Pictures encoded in one call; a VAE takes more memory than the rest of a variant."""
NOISE = 0.6
"""Added to half of the latents, whose own size is about one. Of 0, 0.3 and 0.6, this one gave the
bundled family's previews the least error."""


@dataclass(frozen=True, slots=True)
class PreviewMap:
    """RGB in [0, 1] as a linear function of latents; tensors in float32 on the CPU.

    Attributes:
        matrix: (3, channels).
        bias: (3,).
        explained: share of the variance of the colours it was fitted to that it gives back.
    """

    matrix: torch.Tensor
    bias: torch.Tensor
    explained: float

    def picture(self, latents: torch.Tensor) -> torch.Tensor:
        """Turn latents (channels, h, w) into uint8 (h, w, 3) on the CPU.

        Raises:
            ArithmeticError: a value is not finite.
        """
        flat = latents.detach().float().flatten(1).to("cpu")
        colours = self.matrix @ flat + self.bias[:, None]
        if not bool(torch.isfinite(colours).all()):
            raise ArithmeticError("the latents are not finite")
        pixels = (colours.clamp(0, 1) * 255).round().to(torch.uint8)
        return pixels.T.reshape(*latents.shape[-2:], 3)


def fit_preview(encode: Coder | None, decode: Coder, channels: int, scale: int) -> PreviewMap:
    """Fit the map of a VAE.

    Args:
        encode: pictures (n, 3, h, w) in [-1, 1] to latents (n, channels, h / scale, w / scale) as
            the pipeline holds them; None where the VAE cannot, and random smooth latents will do.
        decode: the other way.
        channels: of the latents.
        scale: pixels for one latent.

    Raises:
        ArithmeticError: the decoder's pictures are not finite.
    """
    generator = torch.Generator("cpu").manual_seed(0)
    latents = None
    if encode is not None:
        latents = _in_parts(encode, colour_pictures(PICTURES, SIDE * scale, generator))
    if latents is None or not bool(torch.isfinite(latents).all()):
        coarse = torch.randn((PICTURES, channels, SIDE // 2, SIDE // 2), generator=generator)
        latents = torch.nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bicubic")
    noisy = latents + NOISE * torch.randn(latents.shape, generator=generator)
    latents = torch.cat([latents, noisy])
    pictures = _in_parts(decode, latents).clamp(-1, 1)
    if not bool(torch.isfinite(pictures).all()):
        raise ArithmeticError("the VAE's pictures are not finite")
    return _fit(latents, pictures, scale)


def colour_pictures(count: int, side: int, generator: torch.Generator) -> torch.Tensor:
    """Return pictures (count, 3, side, side) in [-1, 1]: patches of one colour, and gradients."""
    half = count // 2
    patches = torch.rand((half, 3, 4, 4), generator=generator)
    corners = torch.rand((count - half, 3, 3, 3), generator=generator)
    solid = torch.nn.functional.interpolate(patches, size=(side, side), mode="nearest")
    soft = torch.nn.functional.interpolate(
        corners, size=(side, side), mode="bilinear", align_corners=True
    )
    return torch.cat([solid, soft]) * 2 - 1


def _in_parts(code: Coder, batch: torch.Tensor) -> torch.Tensor:
    return torch.cat([code(part).float().cpu() for part in torch.split(batch, AT_ONCE)])


def _fit(latents: torch.Tensor, pictures: torch.Tensor, scale: int) -> PreviewMap:
    """Return the least-squares map; solved in float64 through the normal equations."""
    colours = torch.nn.functional.avg_pool2d(pictures, scale) * 0.5 + 0.5
    x = latents.movedim(1, -1).flatten(0, -2).double()
    y = colours.movedim(1, -1).flatten(0, -2).double()
    mean_x, mean_y = x.mean(0), y.mean(0)
    x, y = x - mean_x, y - mean_y
    gram = x.T @ x
    # A channel that says nothing would make the equations singular; this much changes no colour.
    ridge = 1e-6 * gram.diagonal().mean().clamp(min=1e-12) * torch.eye(len(gram), dtype=gram.dtype)
    matrix = torch.linalg.solve(gram + ridge, x.T @ y).T
    left = (y - x @ matrix.T).square().sum() / y.square().sum().clamp(min=1e-12)
    bias = mean_y - matrix @ mean_x
    return PreviewMap(matrix.float(), bias.float(), 1.0 - float(left))
