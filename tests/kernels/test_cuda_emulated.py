"""The arithmetic and indexing of step.cu, run on the CPU, give the reference's bits.

The source is the one that nvcc compiles. Only its four launches are rewritten as loops over blocks
and threads, and CUDA's headers replaced by those in emulated_cuda/.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from argus.errors import InternalError
from argus.kernels import build, cuda_step, reference
from argus.kernels.samples import StepSample

pytestmark = pytest.mark.skipif(not shutil.which("g++"), reason="no g++ to compile step.cu for CPU")
HEADERS = Path(__file__).with_name("emulated_cuda")
LAUNCH = re.compile(r"(\w+_kernel<[^<>]*>)<<<(grid\([^)]*\)), kThreads, 0, stream>>>\(")
CPU = torch.device("cpu")
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
# Wide accesses; one element at a time; several blocks.
LATENTS = [(4, 8, 8), (3, 5, 7), (4, 23, 29)]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("emulated")
    text, launches = LAUNCH.subn(r"emulate(\2, kThreads, \1, ", build.SOURCE.read_text())
    assert launches == 4
    assert "<<<" not in text
    source, out = folder / "step.cpp", folder / "step.so"
    source.write_text(text, encoding="utf-8")
    flags = ["-std=c++17", "-O1", "-ffp-contract=off", "-shared", "-fPIC", "-fwrapv"]
    subprocess.run(
        ["g++", *flags, f"-I{HEADERS}", '-DARGUS_STEP_SOURCE="emulated"', f"-o{out}", source],
        check=True,
    )
    return cuda_step.declared(ctypes.CDLL(str(out)))


def gathered(library: ctypes.CDLL, sample: StepSample, states: torch.Tensor) -> torch.Tensor:
    inputs = torch.empty_like(sample.output)
    cuda_step.launch_gather(library, states, sample.lane_slots, sample.weights, inputs, 0)
    return inputs


def updated(library: ctypes.CDLL, sample: StepSample, states: torch.Tensor) -> torch.Tensor:
    lanes = (sample.negative, sample.positive, sample.guidance)
    cuda_step.launch_update(
        library, states, sample.slots, sample.output, lanes, sample.coefficients, sample.noise, 0
    )
    return states


def updated_by_reference(sample: StepSample) -> torch.Tensor:
    states = sample.states.clone()
    sample.update(reference, states)
    assert not torch.equal(states, sample.states)
    return states


@pytest.mark.parametrize("states", range(1, cuda_step.MAX_STATES + 1))
@pytest.mark.parametrize("latent", LATENTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_gather_gives_the_bits_of_the_reference(
    library: ctypes.CDLL, states: int, latent: tuple[int, int, int], dtype: torch.dtype
) -> None:
    sample = StepSample.random(CPU, dtype, latent, states, 3)
    assert torch.equal(gathered(library, sample, sample.states), sample.gather(reference))


@pytest.mark.parametrize("states", range(1, cuda_step.MAX_STATES + 1))
@pytest.mark.parametrize("latent", LATENTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
def test_update_gives_the_bits_of_the_reference_in_every_slot(
    library: ctypes.CDLL,
    states: int,
    latent: tuple[int, int, int],
    dtype: torch.dtype,
    noisy: bool,
    channels_last: bool,
) -> None:
    sample = StepSample.random(CPU, dtype, latent, states, 3, noisy)
    if channels_last:
        last = sample.output.contiguous(memory_format=torch.channels_last)
        sample = replace(sample, output=last)
    assert torch.equal(
        updated(library, sample, sample.states.clone()), updated_by_reference(sample)
    )


def test_a_pool_that_is_not_aligned_is_read_one_element_at_a_time(library: ctypes.CDLL) -> None:
    sample = StepSample.random(CPU, torch.float32, (4, 8, 8), 2, 3)
    storage = torch.zeros(sample.states.numel() + 1)
    shifted = storage[1:].view(sample.states.shape)
    shifted.copy_(sample.states)
    assert shifted.data_ptr() % 16 != 0
    assert torch.equal(gathered(library, sample, shifted), sample.gather(reference))
    assert torch.equal(updated(library, sample, shifted), updated_by_reference(sample))


def test_rows_at_the_padding_slot_write_nothing(library: ctypes.CDLL) -> None:
    sample = StepSample.random(CPU, torch.float16, (4, 8, 8), 2, 3)
    slots = sample.slots.clone()
    slots[1:] = sample.states.shape[1] - 1
    padded = replace(sample, slots=slots)
    padded.output[2:] = float("nan")
    ours = updated(library, padded, sample.states.clone())
    assert torch.isfinite(ours).all()
    assert torch.equal(ours, updated_by_reference(padded))


def test_a_step_without_rows_is_no_error(library: ctypes.CDLL) -> None:
    sample = StepSample.random(CPU, torch.float32, (4, 8, 8), 2, 0)
    before = sample.states.clone()
    assert gathered(library, sample, sample.states).shape == (0, 4, 8, 8)
    assert torch.equal(updated(library, sample, sample.states), before)


def test_more_states_than_there_are_kernels_for_are_refused(library: ctypes.CDLL) -> None:
    sample = StepSample.random(CPU, torch.float32, (4, 8, 8), cuda_step.MAX_STATES + 1, 1)
    with pytest.raises(InternalError, match="invalid argument"):
        gathered(library, sample, sample.states)
    with pytest.raises(InternalError, match="invalid argument"):
        updated(library, sample, sample.states)
