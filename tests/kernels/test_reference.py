"""The plain torch step against its formula, evaluated number by number in float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from argus.errors import InvalidArgumentError
from argus.kernels import reference
from argus.kernels.samples import StepSample

CPU = torch.device("cpu")


def sample_of(
    states: int, rows: int = 3, noisy: bool = True, dtype: torch.dtype = torch.float32
) -> StepSample:
    return StepSample.random(CPU, dtype, (3, 5, 7), states, rows, noisy)


def gathered(sample: StepSample) -> NDArray[np.float64]:
    states, weights = sample.states.double().numpy(), sample.weights.double().numpy()
    result = np.zeros((len(sample.lane_slots), *states.shape[2:]))
    for lane, slot in enumerate(sample.lane_slots.tolist()):
        for j in range(len(states)):
            result[lane] += weights[lane, j] * states[j, slot]
    return result


def updated(sample: StepSample) -> NDArray[np.float64]:
    states = sample.states.double().numpy()
    output, lines = sample.output.double().numpy(), sample.coefficients.double().numpy()
    result = states.copy()
    for r, slot in enumerate(sample.slots.tolist()):
        without, prompted = output[sample.negative[r]], output[sample.positive[r]]
        e = without + float(sample.guidance[r]) * (prompted - without)
        terms = [*states[:, slot], e]
        if sample.noise is not None:
            terms.append(sample.noise[r].double().numpy())
        for j in range(len(states)):
            result[j, slot] = sum(c * t for c, t in zip(lines[r, j], terms, strict=False))
    return result


@pytest.mark.parametrize("states", [1, 2, 3, 5])
def test_gather_is_the_weighted_sum_of_states(states: int) -> None:
    sample = sample_of(states)
    np.testing.assert_allclose(sample.gather(reference).numpy(), gathered(sample), atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gather_rounds_to_the_dtype_of_the_model_once(dtype: torch.dtype) -> None:
    sample = sample_of(2, dtype=dtype)
    in_full = reference.gather_inputs(
        sample.states, sample.lane_slots, sample.weights, torch.float32
    )
    assert torch.equal(sample.gather(reference), in_full.to(dtype))


@pytest.mark.parametrize("states", [1, 2, 3, 5])
@pytest.mark.parametrize("noisy", [False, True])
def test_update_follows_its_formula(states: int, noisy: bool) -> None:
    sample = sample_of(states, noisy=noisy)
    expected = updated(sample)
    sample.update(reference)
    np.testing.assert_allclose(sample.states.numpy(), expected, atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_update_computes_in_float32_whatever_the_model_returns(dtype: torch.dtype) -> None:
    sample = sample_of(2, dtype=dtype)
    expected = updated(sample)
    sample.update(reference)
    np.testing.assert_allclose(sample.states.numpy(), expected, atol=2e-6)


def test_update_of_a_row_without_guidance_takes_its_one_lane() -> None:
    sample = sample_of(2)
    alone = replace(sample, negative=sample.positive.clone())
    expected = updated(alone)
    alone.update(reference)
    np.testing.assert_allclose(alone.states.numpy(), expected, atol=2e-6)


def test_update_reads_channels_last_outputs() -> None:
    planes = sample_of(3)
    last = replace(
        planes,
        states=planes.states.clone(),
        output=planes.output.contiguous(memory_format=torch.channels_last),
    )
    planes.update(reference)
    last.update(reference)
    assert torch.equal(planes.states, last.states)


def test_update_leaves_every_other_slot_as_it_was() -> None:
    sample = sample_of(3)
    before = sample.states.clone()
    sample.update(reference)
    others = [s for s in range(before.shape[1]) if s not in sample.slots.tolist()]
    assert len(others) > 1
    assert torch.equal(sample.states[:, others], before[:, others])


def test_rows_at_the_padding_slot_write_nothing_even_if_their_output_is_nan() -> None:
    sample = sample_of(2)
    padding = sample.states.shape[1] - 1
    slots = sample.slots.clone()
    slots[1:] = padding
    padded = replace(sample, slots=slots)
    padded.output[2:] = float("nan")
    before = padded.states.clone()
    expected = updated(replace(padded, output=padded.output.nan_to_num(0.0)))
    padded.update(reference)
    row = int(slots[0])
    np.testing.assert_allclose(padded.states[:, row].numpy(), expected[:, row], atol=2e-6)
    assert torch.equal(padded.states[:, padding], before[:, padding])


@pytest.mark.parametrize("latent", [(8, 8, 8), (4, 64, 64), (3, 5, 7)])
def test_a_rows_bits_do_not_depend_on_the_rows_beside_it(latent: tuple[int, int, int]) -> None:
    together = StepSample.random(CPU, torch.float32, latent, 2, 16, noisy=True)
    assert together.noise is not None
    before = together.states.clone()
    inputs = together.gather(reference)
    together.update(reference)
    for r in range(16):
        pair = slice(2 * r, 2 * r + 2)
        alone = StepSample(
            states=before.clone(),
            slots=together.slots[r : r + 1],
            lane_slots=together.lane_slots[pair],
            weights=together.weights[pair],
            output=together.output[pair],
            negative=torch.tensor([0]),
            positive=torch.tensor([1]),
            guidance=together.guidance[r : r + 1],
            coefficients=together.coefficients[r : r + 1],
            noise=together.noise[r : r + 1],
        )
        assert torch.equal(alone.gather(reference), inputs[pair])
        alone.update(reference)
        slot = int(together.slots[r])
        assert torch.equal(alone.states[:, slot], together.states[:, slot])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("states", torch.zeros(2, 8, 3, 5, 7, dtype=torch.float64)),
        ("states", torch.zeros(2, 8, 3, 5)),
        ("slots", torch.zeros(3, dtype=torch.int32)),
        ("negative", torch.zeros(2, dtype=torch.int64)),
        ("positive", torch.zeros(6, dtype=torch.int64)[::2]),
        ("guidance", torch.zeros(3, dtype=torch.float64)),
        ("coefficients", torch.zeros(3, 2, 3)),
        ("noise", torch.zeros(3, 3, 7, 5)),
        ("output", torch.zeros(6, 3, 7, 5)),
        ("output", torch.zeros(6, 3, 5, 7, dtype=torch.float64)),
    ],
)
def test_a_wrong_argument_of_update_is_refused_by_name(field: str, value: torch.Tensor) -> None:
    sample = replace(sample_of(2), **{field: value})
    with pytest.raises(InvalidArgumentError) as refused:
        sample.update(reference)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("lane_slots", torch.zeros(6, dtype=torch.int32)),
        ("weights", torch.zeros(6, 3)),
        ("weights", torch.zeros(2, 6).t()),
    ],
)
def test_a_wrong_argument_of_gather_is_refused_by_name(field: str, value: torch.Tensor) -> None:
    sample = replace(sample_of(2), **{field: value})
    with pytest.raises(InvalidArgumentError) as refused:
        sample.gather(reference)
    assert refused.value.field == field


def test_gather_refuses_a_dtype_that_no_model_has() -> None:
    sample = sample_of(2)
    with pytest.raises(InvalidArgumentError, match="dtype"):
        reference.gather_inputs(sample.states, sample.lane_slots, sample.weights, torch.int8)
