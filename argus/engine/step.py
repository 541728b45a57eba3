"""One denoising step of a batch: gather, forward, guidance and update, scatter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

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

    Rows whose samplers keep fewer tensors than the pool holds have zeros for the rest.

    Attributes:
        timesteps: (rows,) float32.
        inputs: (rows, S) float32.
        updates: (rows, S, S + 2) float32.
        noisy: whether some row draws noise.
    """

    def __init__(self, rows: Sequence[Row], states: int) -> None:
        self.timesteps = np.empty(len(rows), dtype=np.float32)
        self.inputs = np.zeros((len(rows), states), dtype=np.float32)
        self.updates = np.zeros((len(rows), states, states + 2), dtype=np.float32)
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
    plan, lines = LanePlan(rows, pool.padding, bucket), Lines(rows, len(pool.states))
    dtype, latent = forwards.adapter.dtype, pool.key.latent
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
    buffers = forwards.buffers(latent, bucket)
    buffers.latents.copy_(forwards.gather(pool.states, sent["slots"], sent["inputs"], dtype))
    buffers.timesteps.copy_(sent["timesteps"])
    for name, texts in pool.conditioning.items():
        torch.index_select(texts, 0, sent["texts"], out=buffers.conditioning[name])
    output = forwards.run(latent, bucket)
    guided = output, sent["negative"], sent["positive"], sent["guidance"]
    if any(row.rescales for row in rows):
        guided = _rescaled(rows, *guided)
    noise = _noise(rows, pool, dtype) if lines.noisy else None
    forwards.update(pool.states, sent["rows"], *guided, sent["updates"], noise)
    for row in rows:
        row.position += 1


Guided = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
"""The model's output, the lanes of each row without and with its prompt, and its guidance."""


def _rescaled(
    rows: Sequence[Row],
    output: torch.Tensor,
    negative: torch.Tensor,
    positive: torch.Tensor,
    guidance: torch.Tensor,
) -> Guided:
    """Return the output as if each row were unguided, with guidance applied and rescaled in it.

    Lin et al. 2023 (arXiv 2305.08891), section 3.4. Row by row, so that a reduction over one never
    depends on the others.
    """
    without = output.index_select(0, negative).float()
    with_prompt = output.index_select(0, positive).float()
    e = without + guidance.view(-1, 1, 1, 1) * (with_prompt - without)
    for i, row in enumerate(rows):
        if row.rescales:
            rescale = row.request.guidance_rescale
            e[i] *= rescale * (with_prompt[i].std() / e[i].std()) + (1.0 - rescale)
    own = torch.arange(len(rows), device=e.device)
    return e, own, own, torch.zeros_like(guidance)


def _noise(rows: Sequence[Row], pool: SlotPool, dtype: torch.dtype) -> torch.Tensor:
    """Return z, float32 (rows, channels, height, width); zero for rows that draw none."""
    device = pool.states.device
    z = torch.zeros((len(rows), *pool.key.latent), pin_memory=device.type == "cuda")
    for i, row in enumerate(rows):
        if row.table.draws_noise:
            z[i] = row.noise_of_step(torch.float32 if row.table.noise_in_float32 else dtype)
    return z.to(device, non_blocking=True)
