"""Shapes and dtypes of a step, checked on the host before a kernel sees a pointer."""

from __future__ import annotations

import torch

from argus.errors import InvalidArgumentError

MODEL_DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def check_states(states: torch.Tensor) -> None:
    """Refuse a pool that is not a contiguous float32 (S, slots + 1, C, H, W) tensor."""
    if states.ndim != 5:
        raise InvalidArgumentError("states", f"has {states.ndim} axes; (S, slots + 1, C, H, W)")
    if states.dtype != torch.float32 or not states.is_contiguous():
        raise InvalidArgumentError("states", "must be contiguous float32")


def check_gather(
    states: torch.Tensor, lane_slots: torch.Tensor, weights: torch.Tensor, dtype: torch.dtype
) -> None:
    """Refuse arguments that `gather_inputs` cannot take, naming the one that is wrong."""
    check_states(states)
    if dtype not in MODEL_DTYPES:
        raise InvalidArgumentError("dtype", f"{dtype} is none of float16, bfloat16, float32")
    _check_vector("lane_slots", lane_slots, torch.int64, lane_slots.numel(), states.device)
    _check_dense("weights", weights, (lane_slots.numel(), states.shape[0]), states.device)


def check_update(
    states: torch.Tensor,
    slots: torch.Tensor,
    output: torch.Tensor,
    negative: torch.Tensor,
    positive: torch.Tensor,
    guidance: torch.Tensor,
    coefficients: torch.Tensor,
    noise: torch.Tensor | None,
) -> None:
    """Refuse arguments that `update_states` cannot take, naming the one that is wrong."""
    check_states(states)
    rows, count, device = slots.numel(), states.shape[0], states.device
    for name, lanes in (("slots", slots), ("negative", negative), ("positive", positive)):
        _check_vector(name, lanes, torch.int64, rows, device)
    _check_vector("guidance", guidance, torch.float32, rows, device)
    _check_dense("coefficients", coefficients, (rows, count, count + 2), device)
    if noise is not None:
        _check_dense("noise", noise, (rows, *states.shape[2:]), device)
    if output.dtype not in MODEL_DTYPES:
        raise InvalidArgumentError("output", f"{output.dtype} is no dtype of a model")
    if output.ndim != 4 or output.shape[1:] != states.shape[2:] or output.device != device:
        wanted = f"(L, {', '.join(map(str, states.shape[2:]))}) on {device}"
        raise InvalidArgumentError("output", f"is {tuple(output.shape)}; must be {wanted}")


def is_channels_last(tensor: torch.Tensor) -> bool:
    """Return whether the channels of a (N, C, H, W) tensor lie next to each other in memory."""
    return not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last)


def dense(tensor: torch.Tensor) -> torch.Tensor:
    """Return a (N, C, H, W) tensor as it is if either memory format fits it, else a copy."""
    return tensor if is_channels_last(tensor) else tensor.contiguous()


def _check_vector(
    name: str, tensor: torch.Tensor, dtype: torch.dtype, length: int, device: torch.device
) -> None:
    if tensor.shape != (length,) or tensor.dtype != dtype or not tensor.is_contiguous():
        raise InvalidArgumentError(name, f"must be a contiguous {dtype} vector of {length}")
    if tensor.device != device:
        raise InvalidArgumentError(name, f"lies on {tensor.device}, the states on {device}")


def _check_dense(
    name: str, tensor: torch.Tensor, shape: tuple[int, ...], device: torch.device
) -> None:
    if tensor.shape != shape or tensor.dtype != torch.float32 or not tensor.is_contiguous():
        raise InvalidArgumentError(name, f"must be contiguous float32 of shape {shape}")
    if tensor.device != device:
        raise InvalidArgumentError(name, f"lies on {tensor.device}, the states on {device}")
