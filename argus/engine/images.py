"""Pixels to bytes."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from argus.types import ImageFormat

JPEG_QUALITY = 95
PREVIEW_QUALITY = 80
PREVIEW_SIDE = 256


def encode_image(pixels: NDArray[np.uint8], kind: ImageFormat) -> bytes:
    """Encode uint8 pixels (height, width, 3); PNG and WebP without loss."""
    out = io.BytesIO()
    image = Image.fromarray(pixels)
    if kind is ImageFormat.PNG:
        image.save(out, "PNG")
    elif kind is ImageFormat.WEBP:
        image.save(out, "WEBP", lossless=True)
    else:
        image.save(out, "JPEG", quality=JPEG_QUALITY)
    return out.getvalue()


def encode_preview(pixels: NDArray[np.uint8], width: int, height: int) -> bytes:
    """Encode uint8 pixels (h, w, 3) as a JPEG of the picture's shape, at most 256 pixels a side.

    Args:
        pixels: as large as the latents; what is shown is them blown up.
        width: of the picture.
        height: of the picture.
    """
    out = io.BytesIO()
    scale = min(1.0, PREVIEW_SIDE / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    image = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
    image.save(out, "JPEG", quality=PREVIEW_QUALITY)
    return out.getvalue()
