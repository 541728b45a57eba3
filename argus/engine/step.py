"""One denoising step of a batch: gather, forward, guidance and update, scatter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from argus.engine.forwards import Forwards
from argus.engine.row import Row
from argus.engine.slots import SlotPool
from argus.engine.staging import send


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


def run_step(forwards: Forwards, pool: SlotPool, rows: Sequence[Row], bucket: int) -> None:
    """Advance every row by one line of its table, in one forward of `bucket` lanes.

    The rows may differ in sampler, step count, position and guidance. Their positions are counted
    up and the pool's `states` overwritten, both only after everything that may fail: a step that
    raised can be tried again. Nothing here waits for the device.
    """
    plan, lines = LanePlan(rows, pool.padding, bucket), Lines(rows)
    sent = send(
        {
            "slots": plan.slots,
            "texts": plan.texts,
            "negative": plan.negative,
            "positive": plan.positive,
            "rows": np.array([row.slot for row in rows], dtype=np.int64),
            "guidance": np.array([row.guidance_scale for row in rows], dtype=np.float32),
            "timesteps": lines.timesteps[plan.owner],
            "inputs": lines.inputs[plan.owner],
            "updates": lines.updates,
        },
        pool.states.device,
    )
    buffers = forwards.buffers(pool.key.latent, bucket)
    buffers.latents.copy_(_gather(pool, lines.inputs, sent["slots"], sent["inputs"]))
    buffers.timesteps.copy_(sent["timesteps"])
    for name, texts in pool.conditioning.items():
        torch.index_select(texts, 0, sent["texts"], out=buffers.conditioning[name])
    output = forwards.run(pool.key.latent, bucket).float()
    e = _guided(rows, output, sent)
    z = _noise(rows, e, forwards.adapter.dtype) if lines.noisy else None
    states = _advance(pool, lines, sent, e, z)
    for j, state in enumerate(states):
        pool.states[j].index_copy_(0, sent["rows"], state)
    for row in rows:
        row.position += 1


def _gather(
    pool: SlotPool, weights: NDArray[Any], slots: torch.Tensor, sent: torch.Tensor
) -> torch.Tensor:
    """Return what the model sees, float32 (lanes, channels, height, width)."""
    seen = _column(sent, 0) * pool.states[0].index_select(0, slots)
    for j in range(1, weights.shape[1]):
        if weights[:, j].any():
            seen = seen + _column(sent, j) * pool.states[j].index_select(0, slots)
    return seen


def _guided(
    rows: Sequence[Row], output: torch.Tensor, sent: dict[str, torch.Tensor]
) -> torch.Tensor:
    """Return e for each row: classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598)."""
    without = output.index_select(0, sent["negative"])
    positive = output.index_select(0, sent["positive"])
    # For a row without guidance both lanes are the same one and the difference is zero.
    e = without + sent["guidance"].view(-1, 1, 1, 1) * (positive - without)
    for i, row in enumerate(rows):
        rescale = row.request.guidance_rescale
        if rescale > 0.0 and row.lanes == 2:
            # Lin et al. 2023 (arXiv 2305.08891), section 3.4; row by row, so that a reduction
            # over one never depends on the others.
            ratio = positive[i].std() / e[i].std()
            e[i] *= rescale * ratio + (1.0 - rescale)
    return e


def _advance(
    pool: SlotPool,
    lines: Lines,
    sent: dict[str, torch.Tensor],
    e: torch.Tensor,
    z: torch.Tensor | None,
) -> list[torch.Tensor]:
    """Return the next state of every row, S tensors shaped as `e`; see `diffusion.tables`."""
    terms = [pool.states[j].index_select(0, sent["rows"]) for j in range(lines.states)]
    terms.append(e)
    if z is not None:
        terms.append(z)
    states = []
    for j in range(lines.states):
        new = _column(sent["updates"][:, j], 0) * terms[0]
        for k, term in enumerate(terms[1:], start=1):
            # A column of zeros adds nothing.
            if lines.updates[:, j, k].any():
                new = new + _column(sent["updates"][:, j], k) * term
        states.append(new)
    return states


def _noise(rows: Sequence[Row], like: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return z for each row, zero for rows whose sampler draws none; float32 shaped as `like`."""
    z = torch.zeros(like.shape, pin_memory=like.is_cuda)
    for i, row in enumerate(rows):
        if row.table.draws_noise:
            z[i] = row.noise_of_step(torch.float32 if row.table.noise_in_float32 else dtype)
    return z.to(like.device, non_blocking=True)


def _column(weights: torch.Tensor, index: int) -> torch.Tensor:
    """Return column `index` of (n, m) coefficients, shaped (n, 1, 1, 1)."""
    return weights[:, index].view(-1, 1, 1, 1)
