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


def encode_preview(pixels: NDArray[np.uint8]) -> bytes:
    """Encode uint8 pixels (height, width, 3) as a JPEG of at most 256 pixels a side."""
    out = io.BytesIO()
    image = Image.fromarray(pixels)
    image.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    image.save(out, "JPEG", quality=PREVIEW_QUALITY)
    return out.getvalue()
