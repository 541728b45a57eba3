"""What comes before and after the steps of an image, measured: text encoding and decoding."""

from __future__ import annotations

import time

import torch

from argus.diffusion.adapter import PipelineAdapter
from argus.engine.images import encode_image
from argus.types import ImageFormat

BATCHED_LATENTS = 64 * 64
"""Latents above this many are decoded one by one: their VAE fills the device, and its memory."""
WORTH_IT = 0.95
"""Share of the time one by one below which decoding together is used."""


def measure_edges(adapter: PipelineAdapter, repeats: int = 3) -> tuple[float, float]:
    """Return the seconds to encode one text, and to decode and compress one image."""
    shape = adapter.latent_shape(adapter.info.width, adapter.info.height)
    latents = torch.zeros((1, *shape), device=adapter.device)
    text_s, decode_s = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        encoded = adapter.encode("a picture", False, adapter.info.width, adapter.info.height)
        for tensor in encoded.tensors.values():
            tensor.cpu()  # waits for the device
        text_s.append(time.perf_counter() - start)
        start = time.perf_counter()
        encode_image(adapter.decode(latents)[0].numpy(), ImageFormat.PNG)
        decode_s.append(time.perf_counter() - start)
    return min(text_s), min(decode_s)


def probe_decode(adapter: PipelineAdapter, most: int = 4, repeats: int = 3) -> int:
    """Return how many images of the native size are decoded at once.

    It is the largest number up to `most` that gives every picture as if it were decoded alone, for
    that must not depend on whose pictures are finished at the same moment, and that is faster.
    What is compared is not rounded yet: a difference that moves no pixel of these pictures moves
    one of others.
    """
    channels, height, width = adapter.latent_shape(adapter.info.width, adapter.info.height)
    if height * width > BATCHED_LATENTS:
        return 1
    generator = torch.Generator("cpu").manual_seed(0)
    latents = torch.randn((most, channels, height, width), generator=generator)
    latents = latents.to(adapter.device)
    alone = [adapter.decode_unrounded(latents[i : i + 1])[0] for i in range(most)]
    best, best_s = 1, _seconds(adapter, latents[:1], repeats)
    for n in range(2, most + 1):
        orders = [list(range(n)), list(range(n))[::-1], [*range(1, n), 0]]
        together = [(adapter.decode_unrounded(latents[order]), order) for order in orders]
        if not all(
            torch.equal(picture, alone[i])
            for pictures, order in together
            for picture, i in zip(pictures, order, strict=True)
        ):
            # Smaller numbers come by as well, when fewer are waiting.
            break
        each_s = _seconds(adapter, latents[:n], repeats) / n
        if each_s < WORTH_IT * best_s:
            best, best_s = n, each_s
    return best


def _seconds(adapter: PipelineAdapter, latents: torch.Tensor, repeats: int) -> float:
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        adapter.decode(latents)  # its pixels are on the CPU, so the device is waited for
        taken.append(time.perf_counter() - start)
    return min(taken)
