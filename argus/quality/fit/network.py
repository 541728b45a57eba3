"""A small network, by torch, as arrays."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from argus.control.learned.models import Model, Network
from argus.quality.fit.recipes import Training, standard

HIDDEN, MEMBERS, EPOCHS, BATCH, RATE = 32, 4, 30, 512, 4e-3
DECAYS = (0.1, 1.0)
DROPOUT = 0.2


def small_network(training: Training) -> Iterator[tuple[str, Model]]:
    """Networks of one hidden layer over every pair of a prompt and a level."""
    import torch

    known, targets = training.residuals()
    shift, scale = standard(training.inputs.rows[known])
    rows = torch.tensor((training.inputs.rows[known] - shift) / scale, dtype=torch.float32)
    wanted = torch.tensor(targets, dtype=torch.float32)
    for decay in DECAYS:
        members = []
        for member in range(MEMBERS):
            generator = torch.Generator().manual_seed(1000 * training.seed + member)
            members.append(_train(rows, wanted, decay, generator))
        inner, inner_bias, outer, outer_bias = (
            np.stack([m[i].detach().numpy().astype(np.float64) for m in members]) for i in range(4)
        )
        yield (
            f"{MEMBERS} of {HIDDEN} units, decay {decay:g}",
            Network(training.means, shift, scale, inner, inner_bias, outer, outer_bias),
        )


def _train(rows, wanted, decay, generator):  # type: ignore[no-untyped-def]
    """Return weights and biases, (f, h), (h,), (h,) and (), after AdamW with a falling step."""
    import torch

    width = rows.shape[1]
    inner = (torch.randn(width, HIDDEN, generator=generator) / width**0.5).requires_grad_()
    inner_bias = torch.zeros(HIDDEN, requires_grad=True)
    outer = (0.1 * torch.randn(HIDDEN, generator=generator) / HIDDEN**0.5).requires_grad_()
    outer_bias = torch.zeros((), requires_grad=True)
    weights = [inner, inner_bias, outer, outer_bias]
    adam = torch.optim.AdamW(weights, lr=RATE, weight_decay=decay)
    steps = EPOCHS * -(-len(rows) // BATCH)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(rows), generator=generator).split(BATCH):
            hidden = torch.relu(rows[batch] @ inner + inner_bias)
            kept = torch.rand(hidden.shape, generator=generator) >= DROPOUT
            found = (hidden * kept / (1 - DROPOUT)) @ outer + outer_bias
            loss = torch.mean((found - wanted[batch]) ** 2)
            adam.zero_grad()
            loss.backward()
            adam.step()
            falling.step()
    return weights
