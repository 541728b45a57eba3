"""A step's gather and update as one Triton kernel each; see `argus.kernels.reference`."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from argus.kernels.checks import check_gather, check_update, dense, is_channels_last

BLOCK = 1024
WARPS = 4


@triton.jit
def gather_kernel(
    states, lane_slots, weights, inputs, size, pitch, count: tl.constexpr, block: tl.constexpr
):
    """One program for block elements of a lane; `pitch` is the distance between two states."""
    lane = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * block + tl.arange(0, block)
    inside = at < size
    pointer = states + tl.load(lane_slots + lane) * size + at
    total = tl.load(weights + lane * count) * tl.load(pointer, mask=inside)
    for j in tl.static_range(1, count):
        pointer += pitch
        total += tl.load(weights + lane * count + j) * tl.load(pointer, mask=inside)
    tl.store(inputs + lane * size + at, total, mask=inside)


@triton.jit
def update_kernel(
    states,
    slots,
    output,
    negative,
    positive,
    guidance,
    coefficients,
    noise,
    size,
    pitch,
    padding,
    channels,
    count: tl.constexpr,
    noisy: tl.constexpr,
    channels_last: tl.constexpr,
    block: tl.constexpr,
):
    """One program for block elements of a row: reads all its states, then writes them."""
    row = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + row)
    at = tl.program_id(1) * block + tl.arange(0, block)
    inside = at < tl.where(slot == padding, 0, size)
    source = at
    if channels_last:
        plane = size // channels
        source = (at % plane) * channels + at // plane
    without = tl.load(output + tl.load(negative + row) * size + source, mask=inside)
    prompted = tl.load(output + tl.load(positive + row) * size + source, mask=inside)
    without = without.to(tl.float32)
    e = (prompted.to(tl.float32) - without) * tl.load(guidance + row) + without

    home = states + slot * size + at
    pointer = home
    terms = ()
    for _ in tl.static_range(count):
        terms = terms + (tl.load(pointer, mask=inside),)
        pointer += pitch
    terms = terms + (e,)
    if noisy:
        terms = terms + (tl.load(noise + row * size + at, mask=inside),)

    line = coefficients + row * count * (count + 2)
    for _ in tl.static_range(count):
        total = tl.load(line) * terms[0]
        for k in tl.static_range(1, count + 1 + noisy):
            total += tl.load(line + k) * terms[k]
        tl.store(home, total, mask=inside)
        home += pitch
        line += count + 2


def gather_inputs(
    states: torch.Tensor, lane_slots: torch.Tensor, weights: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    """Do what `argus.kernels.reference.gather_inputs` does."""
    check_gather(states, lane_slots, weights, dtype)
    lanes, size = lane_slots.numel(), states[0, 0].numel()
    inputs = torch.empty((lanes, *states.shape[2:]), dtype=dtype, device=states.device)
    gather_kernel[lanes, triton.cdiv(size, BLOCK)](
        states,
        lane_slots,
        weights,
        inputs,
        size,
        states.stride(0),
        count=states.shape[0],
        block=BLOCK,
        num_warps=WARPS,
        enable_fp_fusion=False,
    )
    return inputs


def update_states(
    states: torch.Tensor,
    slots: torch.Tensor,
    output: torch.Tensor,
    negative: torch.Tensor,
    positive: torch.Tensor,
    guidance: torch.Tensor,
    coefficients: torch.Tensor,
    noise: torch.Tensor | None = None,
) -> None:
    """Do what `argus.kernels.reference.update_states` does."""
    check_update(states, slots, output, negative, positive, guidance, coefficients, noise)
    output = dense(output)
    rows, size = slots.numel(), states[0, 0].numel()
    update_kernel[rows, triton.cdiv(size, BLOCK)](
        states,
        slots,
        output,
        negative,
        positive,
        guidance,
        coefficients,
        # Never read when not noisy, but a pointer has to be passed.
        states if noise is None else noise,
        size,
        states.stride(0),
        states.shape[1] - 1,
        states.shape[2],
        count=states.shape[0],
        noisy=noise is not None,
        channels_last=is_channels_last(output),
        block=BLOCK,
        num_warps=WARPS,
        enable_fp_fusion=False,
    )
