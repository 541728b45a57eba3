"""GroupNorm + SiLU in Triton with a split reduction, for both memory formats.

One program for each (sample, group) leaves most of a GPU idle when groups are few and large, as
in a VAE. So a group is cut into parts: the `parts` kernels write count, mean and squared deviations
of each part, `combine_kernel` merges those of a group, and the `apply` kernels normalise and
activate. Deviations are taken from a part's own mean and merged by the formula of Chan, Golub and
LeVeque (1983), so that a mean far from zero does not cancel the variance, as it would in the
difference of two large sums.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from argus.errors import InvalidArgumentError
from argus.kernels.checks import MODEL_DTYPES, dense, is_channels_last

BLOCK = 4096
"""Elements that a program takes where channels are planes."""
PIXELS, CHANNELS = 256, 32
"""Pixels and channels that a program takes where channels are neighbours."""
MERGED = 1024
"""Parts that `combine_kernel` reads at a time."""
WARPS = 8


@triton.jit
def parts_kernel(x, parts, total, block: tl.constexpr):
    """Measure block of a group's `total` elements, which lie one after another."""
    group = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    at = part * block + tl.arange(0, block)
    inside = at < total
    values = tl.load(x + group * total + at, mask=inside, other=0.0).to(tl.float32)
    count = tl.minimum(total - part * block, block).to(tl.float32)
    mean = tl.sum(values, axis=0) / count
    deviation = tl.where(inside, values - mean, 0.0)
    entry = parts + (group * tl.num_programs(1) + part) * 3
    tl.store(entry, count)
    tl.store(entry + 1, mean)
    tl.store(entry + 2, tl.sum(deviation * deviation, axis=0))


@triton.jit
def parts_kernel_channels_last(
    x, parts, pixels, channels, width, tile_pixels: tl.constexpr, tile_channels: tl.constexpr
):
    """Measure each channel of a tile over the tile's pixels; a group has `width` channels."""
    sample = tl.program_id(0).to(tl.int64)
    pixel = tl.program_id(1) * tile_pixels + tl.arange(0, tile_pixels)
    channel = tl.program_id(2) * tile_channels + tl.arange(0, tile_channels)
    inside = (pixel < pixels)[:, None] & (channel < channels)[None, :]
    source = x + sample * pixels * channels + pixel[:, None] * channels + channel[None, :]
    values = tl.load(source, mask=inside, other=0.0).to(tl.float32)
    count = tl.minimum(pixels - tl.program_id(1) * tile_pixels, tile_pixels).to(tl.float32)
    mean = tl.sum(values, axis=0) / count
    deviation = tl.where(inside, values - mean[None, :], 0.0)
    group = sample * (channels // width) + channel // width
    part = tl.program_id(1) * width + channel % width
    entry = parts + (group * tl.num_programs(1) * width + part) * 3
    tl.store(entry, count + tl.zeros_like(mean), mask=channel < channels)
    tl.store(entry + 1, mean, mask=channel < channels)
    tl.store(entry + 2, tl.sum(deviation * deviation, axis=0), mask=channel < channels)


@triton.jit
def combine_kernel(parts, moments, length, eps, merged: tl.constexpr):
    """Merge a group's `length` parts into its mean and the inverse of its deviation."""
    group = tl.program_id(0).to(tl.int64)
    entry = parts + group * length * 3
    # Sums are taken from the first part's mean, which keeps them small.
    origin = tl.load(entry + 1)
    counts = tl.zeros([merged], tl.float32)
    shifts = tl.zeros([merged], tl.float32)
    for start in range(0, length, merged):
        at = start + tl.arange(0, merged)
        count = tl.load(entry + at * 3, mask=at < length, other=0.0)
        mean = tl.load(entry + at * 3 + 1, mask=at < length, other=0.0)
        counts += count
        shifts += count * (mean - origin)
    count_all = tl.sum(counts, axis=0)
    mean_all = origin + tl.sum(shifts, axis=0) / count_all
    squares = tl.zeros([merged], tl.float32)
    for start in range(0, length, merged):
        at = start + tl.arange(0, merged)
        count = tl.load(entry + at * 3, mask=at < length, other=0.0)
        mean = tl.load(entry + at * 3 + 1, mask=at < length, other=0.0)
        square = tl.load(entry + at * 3 + 2, mask=at < length, other=0.0)
        squares += square + count * (mean - mean_all) * (mean - mean_all)
    variance = tl.sum(squares, axis=0) / count_all
    tl.store(moments + group * 2, mean_all)
    tl.store(moments + group * 2 + 1, 1.0 / tl.sqrt(variance + eps))


@triton.jit
def apply_kernel(x, moments, weight, bias, y, pixels, channels, width, block: tl.constexpr):
    """Normalise and activate `block` pixels of one channel, so that its scale is one number."""
    plane = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * block + tl.arange(0, block)
    inside = at < pixels
    values = tl.load(x + plane * pixels + at, mask=inside, other=0.0).to(tl.float32)
    moment = moments + (plane // width) * 2
    mean, inverse = tl.load(moment), tl.load(moment + 1)
    scale = tl.load(weight + plane % channels).to(tl.float32)
    shift = tl.load(bias + plane % channels).to(tl.float32)
    values = (values - mean) * inverse * scale + shift
    tl.store(y + plane * pixels + at, values * tl.sigmoid(values), mask=inside)


@triton.jit
def apply_kernel_channels_last(
    x,
    moments,
    weight,
    bias,
    y,
    pixels,
    channels,
    width,
    tile_pixels: tl.constexpr,
    tile_channels: tl.constexpr,
):
    """Normalise and activate one tile of pixels and channels."""
    sample = tl.program_id(0).to(tl.int64)
    pixel = tl.program_id(1) * tile_pixels + tl.arange(0, tile_pixels)
    channel = tl.program_id(2) * tile_channels + tl.arange(0, tile_channels)
    known = channel < channels
    inside = (pixel < pixels)[:, None] & known[None, :]
    offset = sample * pixels * channels + pixel[:, None] * channels + channel[None, :]
    values = tl.load(x + offset, mask=inside, other=0.0).to(tl.float32)
    scale = tl.load(weight + channel, mask=known, other=0.0).to(tl.float32)
    shift = tl.load(bias + channel, mask=known, other=0.0).to(tl.float32)
    moment = moments + (sample * (channels // width) + channel // width) * 2
    mean = tl.load(moment, mask=known, other=0.0)
    inverse = tl.load(moment + 1, mask=known, other=0.0)
    values = (values - mean[None, :]) * inverse[None, :] * scale[None, :] + shift[None, :]
    tl.store(y + offset, values * tl.sigmoid(values), mask=inside)


def group_norm_silu(
    x: torch.Tensor, groups: int, weight: torch.Tensor, bias: torch.Tensor, eps: float
) -> torch.Tensor:
    """Do what `argus.kernels.reference.group_norm_silu` does, rounding to x's dtype once.

    Raises:
        InvalidArgumentError: x is not (N, C, H, W) in a model's dtype, or groups do not divide C.
    """
    _check(x, groups, weight, bias)
    x = dense(x)
    y = torch.empty_like(x)
    run = _channels_last if is_channels_last(x) else _planes
    run(x, groups, weight, bias, eps, y)
    return y


def _check(x: torch.Tensor, groups: int, weight: torch.Tensor, bias: torch.Tensor) -> None:
    if x.ndim != 4 or x.dtype not in MODEL_DTYPES:
        raise InvalidArgumentError("x", f"{x.dtype} {tuple(x.shape)} is not (N, C, H, W) floats")
    if groups < 1 or x.shape[1] % groups:
        raise InvalidArgumentError("groups", f"{groups} do not divide {x.shape[1]} channels")
    for name, vector in (("weight", weight), ("bias", bias)):
        if vector.shape != (x.shape[1],) or vector.device != x.device:
            raise InvalidArgumentError(name, f"must be ({x.shape[1]},) on {x.device}")


def _planes(
    x: torch.Tensor,
    groups: int,
    weight: torch.Tensor,
    bias: torch.Tensor,
    eps: float,
    y: torch.Tensor,
) -> None:
    samples, channels, pixels = x.shape[0], x.shape[1], x.shape[2] * x.shape[3]
    width = channels // groups
    total, everything = pixels * width, samples * groups
    cuts = triton.cdiv(total, BLOCK)
    parts = torch.empty((everything, cuts, 3), dtype=torch.float32, device=x.device)
    moments = torch.empty((everything, 2), dtype=torch.float32, device=x.device)
    options = {"num_warps": WARPS, "enable_fp_fusion": True}
    parts_kernel[everything, cuts](x, parts, total, block=BLOCK, **options)
    combine_kernel[(everything,)](parts, moments, cuts, eps, merged=MERGED, **options)
    block = min(BLOCK, triton.next_power_of_2(pixels))
    options["num_warps"] = max(1, WARPS * block // BLOCK)
    apply_kernel[samples * channels, triton.cdiv(pixels, block)](
        x, moments, weight, bias, y, pixels, channels, width, block=block, **options
    )


def _channels_last(
    x: torch.Tensor,
    groups: int,
    weight: torch.Tensor,
    bias: torch.Tensor,
    eps: float,
    y: torch.Tensor,
) -> None:
    samples, channels, pixels = x.shape[0], x.shape[1], x.shape[2] * x.shape[3]
    width = channels // groups
    tile = min(PIXELS, triton.next_power_of_2(pixels))
    grid = (samples, triton.cdiv(pixels, tile), triton.cdiv(channels, CHANNELS))
    length = grid[1] * width
    parts = torch.empty((samples * groups, length, 3), dtype=torch.float32, device=x.device)
    moments = torch.empty((samples * groups, 2), dtype=torch.float32, device=x.device)
    options = {"num_warps": WARPS, "enable_fp_fusion": True}
    sizes = {"tile_pixels": tile, "tile_channels": CHANNELS}
    parts_kernel_channels_last[grid](x, parts, pixels, channels, width, **sizes, **options)
    combine_kernel[(samples * groups,)](parts, moments, length, eps, merged=MERGED, **options)
    apply_kernel_channels_last[grid](
        x, moments, weight, bias, y, pixels, channels, width, **sizes, **options
    )
