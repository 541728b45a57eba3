"""The Triton step kernels, interpreted on the CPU, give the reference's bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from argus.kernels import reference
from argus.kernels.samples import StepSample

triton_step = pytest.importorskip("argus.kernels.triton_step")
CPU = torch.device("cpu")
# Smaller than a block, odd, and more than one block with a rest.
LATENTS = [(4, 8, 8), (3, 5, 7), (4, 23, 29)]
DTYPES = [torch.float32, torch.float16]
Call = Callable[..., Any]


def update(interpreted: Call, sample: StepSample, states: torch.Tensor) -> torch.Tensor:
    interpreted(
        triton_step.update_states,
        states,
        sample.slots,
        sample.output,
        sample.negative,
        sample.positive,
        sample.guidance,
        sample.coefficients,
        sample.noise,
    )
    return states


def updated_by_reference(sample: StepSample) -> torch.Tensor:
    states = sample.states.clone()
    sample.update(reference, states)
    assert not torch.equal(states, sample.states)
    return states


@pytest.mark.parametrize("states", [2, 3, 5])
@pytest.mark.parametrize("latent", LATENTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_gather_gives_the_bits_of_the_reference(
    interpreted: Call, states: int, latent: tuple[int, int, int], dtype: torch.dtype
) -> None:
    sample = StepSample.random(CPU, dtype, latent, states, 3)
    ours = interpreted(
        triton_step.gather_inputs, sample.states, sample.lane_slots, sample.weights, dtype
    )
    assert ours.dtype == dtype
    assert torch.equal(ours, sample.gather(reference))


@pytest.mark.parametrize("states", [2, 3, 5])
@pytest.mark.parametrize("latent", LATENTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("noisy", [False, True])
def test_update_gives_the_bits_of_the_reference_in_every_slot(
    interpreted: Call,
    states: int,
    latent: tuple[int, int, int],
    dtype: torch.dtype,
    noisy: bool,
) -> None:
    # The whole pool is compared, so other slots and padding are shown to be untouched as well.
    sample = StepSample.random(CPU, dtype, latent, states, 3, noisy)
    ours = update(interpreted, sample, sample.states.clone())
    assert torch.equal(ours, updated_by_reference(sample))


@pytest.mark.parametrize("dtype", DTYPES)
def test_update_reads_channels_last_outputs(interpreted: Call, dtype: torch.dtype) -> None:
    sample = StepSample.random(CPU, dtype, (4, 23, 29), 2, 3)
    last = replace(sample, output=sample.output.contiguous(memory_format=torch.channels_last))
    ours = update(interpreted, last, sample.states.clone())
    assert torch.equal(ours, updated_by_reference(sample))


def test_rows_with_and_without_guidance_share_a_step(interpreted: Call) -> None:
    sample = StepSample.random(CPU, torch.float32, (4, 8, 8), 2, 4)
    negative = sample.negative.clone()
    negative[1::2] = sample.positive[1::2]
    mixed = replace(sample, negative=negative)
    ours = update(interpreted, mixed, sample.states.clone())
    assert torch.equal(ours, updated_by_reference(mixed))


def test_rows_at_the_padding_slot_write_nothing(interpreted: Call) -> None:
    sample = StepSample.random(CPU, torch.float32, (4, 8, 8), 2, 3)
    slots = sample.slots.clone()
    slots[1:] = sample.states.shape[1] - 1
    padded = replace(sample, slots=slots)
    padded.output[2:] = float("nan")
    ours = update(interpreted, padded, sample.states.clone())
    assert torch.isfinite(ours).all()
    assert torch.equal(ours, updated_by_reference(padded))
