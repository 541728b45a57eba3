"""One denoising step of a batch: gather, forward, guidance and update, scatter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from argus.diffusion.adapter import PipelineAdapter
from argus.engine.row import Row
from argus.engine.slots import SlotPool


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


class Lines:
    """The line of each row's table that is due, as arrays on the CPU.

    Rows whose samplers keep fewer tensors than others have zeros for the rest.

    Attributes:
        states: S, the most tensors that a row of the batch keeps.
        timesteps: (rows,) float32.
        inputs: (rows, S) float32.
        updates: (rows, S, S + 2) float32.
        noisy: whether some row draws noise.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.states = max(row.table.states for row in rows)
        self.timesteps = np.empty(len(rows), dtype=np.float32)
        self.inputs = np.zeros((len(rows), self.states), dtype=np.float32)
        self.updates = np.zeros((len(rows), self.states, self.states + 2), dtype=np.float32)
        self.noisy = False
        for i, row in enumerate(rows):
            table, line = row.table, row.position
            kept = table.states
            self.timesteps[i] = table.timesteps[line]
            self.inputs[i, :kept] = table.inputs[line]
            self.updates[i, :kept, :kept] = table.updates[line, :, :kept]
            self.updates[i, :kept, -2:] = table.updates[line, :, kept:]
            self.noisy |= table.draws_noise


def run_step(adapter: PipelineAdapter, pool: SlotPool, rows: Sequence[Row], bucket: int) -> None:
    """Advance every row by one line of its table, in one forward of `bucket` lanes.

    The rows may differ in sampler, step count, position and guidance. Their positions are counted
    up and the pool's `states` overwritten. Nothing here waits for the device.
    """
    device = pool.states.device
    plan, lines = LanePlan(rows, pool.padding, bucket), Lines(rows)
    weights = lines.inputs[plan.owner]
    slots = _send(plan.slots, device)
    inputs = _spread(weights[:, 0], device) * pool.states[0][slots]
    for j in range(1, lines.states):
        if weights[:, j].any():
            inputs = inputs + _spread(weights[:, j], device) * pool.states[j][slots]
    texts = _send(plan.texts, device)
    output = adapter.forward(
        inputs.to(adapter.dtype),
        _send(lines.timesteps[plan.owner], device),
        {name: rows[texts] for name, rows in pool.conditioning.items()},
    ).float()
    _update(pool, rows, lines, _guided(rows, output, plan, device), adapter.dtype)
    for row in rows:
        row.position += 1


def _guided(
    rows: Sequence[Row], output: torch.Tensor, plan: LanePlan, device: torch.device
) -> torch.Tensor:
    """Return e for each row: classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598)."""
    without = output[_send(plan.negative, device)]
    positive = output[_send(plan.positive, device)]
    scale = np.array([row.guidance_scale for row in rows])
    # For a row without guidance both lanes are the same one and the difference is zero.
    e = without + _spread(scale, device) * (positive - without)
    for i, row in enumerate(rows):
        rescale = row.request.guidance_rescale
        if rescale > 0.0 and row.lanes == 2:
            # Lin et al. 2023 (arXiv 2305.08891), section 3.4; row by row, so that a reduction
            # over one never depends on the others.
            ratio = positive[i].std() / e[i].std()
            e[i] *= rescale * ratio + (1.0 - rescale)
    return e


def _update(
    pool: SlotPool, rows: Sequence[Row], lines: Lines, e: torch.Tensor, dtype: torch.dtype
) -> None:
    """Apply one line of each row's table to its slot; see `argus.diffusion.tables`."""
    device = pool.states.device
    index = _send(np.array([row.slot for row in rows], dtype=np.int64), device)
    old = [pool.states[j][index] for j in range(lines.states)]
    terms = [*old, e]
    if lines.noisy:
        terms.append(_noise(rows, e, dtype))
    for j in range(lines.states):
        columns = lines.updates[:, j]
        new = _spread(columns[:, 0], device) * terms[0]
        for k, term in enumerate(terms[1:], start=1):
            # A zero column adds nothing; leaving it out keeps a row's sum the same in any company.
            if columns[:, k].any():
                new = new + _spread(columns[:, k], device) * term
        pool.states[j][index] = new


def _noise(rows: Sequence[Row], like: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return z for each row, zero for rows whose sampler draws none; float32 shaped as `like`."""
    z = torch.zeros(like.shape)
    for i, row in enumerate(rows):
        if row.table.draws_noise:
            drawn_as = torch.float32 if row.table.noise_in_float32 else dtype
            z[i] = row.draw_noise(drawn_as).float()
    if like.is_cuda:
        return z.pin_memory().to(like.device, non_blocking=True)
    return z


def _spread(values: NDArray[Any], device: torch.device) -> torch.Tensor:
    """Return float32 coefficients shaped (n, 1, 1, 1)."""
    return _send(values.astype(np.float32), device).view(-1, 1, 1, 1)


def _send(values: NDArray[Any], device: torch.device) -> torch.Tensor:
    """Copy a small array to the device, without waiting for it on CUDA."""
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor
