"""One denoising step of a batch: gather, forward, guidance and update, scatter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from argus.diffusion.adapter import PipelineAdapter
from argus.diffusion.tables import COLUMNS
from argus.engine.row import Row
from argus.engine.slots import SlotPool

_TIMESTEP, _IN_X, _IN_M = (COLUMNS.index(name) for name in ("timestep", "in_x", "in_m"))
_A, _B, _C, _D, _P, _Q, _R = (COLUMNS.index(name) for name in "abcdpqr")


class LanePlan:
    """Which lane of a forward belongs to which row; arrays on the CPU.

    A guided row takes two neighbouring lanes, negative prompt first, as diffusers orders them; a
    row without guidance takes one. Lanes beyond the rows' own are padding.

    Attributes:
        slots: (bucket,) slot whose latents each lane reads.
        texts: (bucket,) row of the pool's `conditioning` each lane reads.
        owner: (bucket,) index of the row that each lane belongs to; the first row for padding.
        negative: (rows,) lane of the output without the prompt.
        positive: (rows,) lane of the output with the prompt.
    """

    def __init__(self, rows: Sequence[Row], padding_slot: int, bucket: int) -> None:
        self.slots = np.full(bucket, padding_slot, dtype=np.int64)
        self.texts = np.full(bucket, 2 * padding_slot, dtype=np.int64)
        self.owner = np.zeros(bucket, dtype=np.int64)
        self.negative = np.empty(len(rows), dtype=np.int64)
        self.positive = np.empty(len(rows), dtype=np.int64)
        lane = 0
        for i, row in enumerate(rows):
            end = lane + row.lanes
            self.slots[lane:end] = row.slot
            self.owner[lane:end] = i
            self.texts[lane:end] = 2 * row.slot
            self.texts[end - 1] += 1
            self.negative[i], self.positive[i] = lane, end - 1
            lane = end


def run_step(adapter: PipelineAdapter, pool: SlotPool, rows: Sequence[Row], bucket: int) -> None:
    """Advance every row by one step, in one forward of `bucket` lanes.

    The rows may differ in sampler, step count, position and guidance. Their positions are counted
    up and the pool's `latents` and `clean` overwritten. Nothing here waits for the device.
    """
    device = pool.latents.device
    plan = LanePlan(rows, pool.padding, bucket)
    lines = np.stack([row.table.lines[row.position] for row in rows])
    lane_lines = lines[plan.owner]

    slots = _send(plan.slots, device)
    inputs = _spread(lane_lines[:, _IN_X], device) * pool.latents[slots]
    if lane_lines[:, _IN_M].any():
        inputs = inputs + _spread(lane_lines[:, _IN_M], device) * pool.clean[slots]
    texts = _send(plan.texts, device)
    output = adapter.forward(
        inputs.to(adapter.dtype),
        _send(lane_lines[:, _TIMESTEP].astype(np.float32), device),
        {name: rows[texts] for name, rows in pool.conditioning.items()},
    ).float()

    without = output[_send(plan.negative, device)]
    guidance = np.array([row.request.guidance for row in rows])
    # For a row without guidance both lanes are the same one and the difference is zero.
    difference = output[_send(plan.positive, device)] - without
    model_output = without + _spread(guidance, device) * difference
    _update(pool, rows, lines, model_output, adapter.dtype)
    for row in rows:
        row.position += 1


def _update(
    pool: SlotPool,
    rows: Sequence[Row],
    lines: NDArray[np.float64],
    e: torch.Tensor,
    dtype: torch.dtype,
) -> None:
    """Apply one line of each row's table to its slot; see `argus.diffusion.tables`."""
    device = pool.latents.device
    index = _send(np.array([row.slot for row in rows], dtype=np.int64), device)
    a, b, c, d, p, q, r = (
        _spread(lines[:, column], device) for column in (_A, _B, _C, _D, _P, _Q, _R)
    )
    x, m = pool.latents[index], pool.clean[index]
    new = a * x + b * e + c * m
    if any(row.table.draws_noise for row in rows):
        new = new + d * _noise(rows, x, dtype)
    pool.latents[index] = new
    pool.clean[index] = p * x + q * m + r * e


def _noise(rows: Sequence[Row], like: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return z for each row, zero for rows whose sampler draws none; float32 shaped as `like`."""
    z = torch.zeros(like.shape)
    for i, row in enumerate(rows):
        if row.table.draws_noise:
            z[i] = row.draw_noise(dtype).float()
    if like.is_cuda:
        return z.pin_memory().to(like.device, non_blocking=True)
    return z


def _spread(values: NDArray[np.float64], device: torch.device) -> torch.Tensor:
    """Return float32 coefficients shaped (n, 1, 1, 1)."""
    return _send(values.astype(np.float32), device).view(-1, 1, 1, 1)


def _send(values: NDArray[Any], device: torch.device) -> torch.Tensor:
    """Copy a small array to the device, without waiting for it on CUDA."""
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor
