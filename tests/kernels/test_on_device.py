"""On a CUDA device: Triton and CUDA C++ against plain torch, eager and captured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from argus.errors import FailedPreconditionError
from argus.kernels import build, choose, cuda_step, reference
from argus.kernels.fuse import fuse_norms, norm_shapes
from argus.kernels.norm_shape import NormByShape, NormShape
from argus.kernels.samples import NormSample, StepSample
from argus.kernels.timing import seconds_per_call

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
# The real shapes, and one whose rows are not aligned for wide accesses.
LATENTS = [(4, 64, 64), (4, 128, 128), (16, 128, 128), (3, 5, 7)]


@pytest.fixture(scope="module")
def device() -> torch.device:
    return torch.device("cuda", 0)


@pytest.fixture(params=["triton", "cuda"])
def module(request: pytest.FixtureRequest) -> ModuleType:
    if request.param == "triton":
        triton_step: ModuleType = pytest.importorskip("argus.kernels.triton_step")
        return triton_step
    try:
        cuda_step.load()
    except FailedPreconditionError:
        try:
            build.build()
        except FailedPreconditionError as error:
            pytest.skip(str(error))
    return cuda_step


def sample_of(
    device: torch.device, dtype: torch.dtype, latent: tuple[int, int, int], states: int, noisy: bool
) -> StepSample:
    return StepSample.random(device, dtype, latent, states, 5, noisy)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("latent", LATENTS)
@pytest.mark.parametrize("states", [2, 3, 5])
def test_gather_gives_the_bits_of_the_reference(
    module: ModuleType,
    device: torch.device,
    dtype: torch.dtype,
    latent: tuple[int, int, int],
    states: int,
) -> None:
    sample = sample_of(device, dtype, latent, states, noisy=False)
    assert torch.equal(sample.gather(module), sample.gather(reference))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("latent", LATENTS)
@pytest.mark.parametrize("states", [2, 3, 5])
@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
def test_update_gives_the_bits_of_the_reference_in_every_slot(
    module: ModuleType,
    device: torch.device,
    dtype: torch.dtype,
    latent: tuple[int, int, int],
    states: int,
    noisy: bool,
    channels_last: bool,
) -> None:
    sample = sample_of(device, dtype, latent, states, noisy)
    if channels_last:
        last = sample.output.contiguous(memory_format=torch.channels_last)
        sample = replace(sample, output=last)
    ours, expected = sample.states.clone(), sample.states.clone()
    sample.update(module, ours)
    sample.update(reference, expected)
    assert not torch.equal(expected, sample.states)
    assert torch.equal(ours, expected)


def test_rows_at_the_padding_slot_write_nothing(module: ModuleType, device: torch.device) -> None:
    sample = sample_of(device, torch.float16, (4, 64, 64), 2, noisy=False)
    slots = sample.slots.clone()
    slots[1:] = sample.states.shape[1] - 1
    padded = replace(sample, slots=slots)
    padded.output[2:] = float("nan")
    ours, expected = sample.states.clone(), sample.states.clone()
    padded.update(module, ours)
    padded.update(reference, expected)
    assert torch.equal(ours, expected)
    assert torch.equal(ours[:, -1], sample.states[:, -1])


@pytest.mark.parametrize("noisy", [False, True])
def test_a_captured_step_gives_the_bits_of_an_eager_one(
    module: ModuleType, device: torch.device, noisy: bool
) -> None:
    sample = sample_of(device, torch.float16, (4, 64, 64), 2, noisy)
    start = sample.states.clone()
    # Also the warm-up: nothing may be compiled while a graph is captured.
    sample.run(module)
    expected = sample.states.clone()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        sample.run(module)
    sample.states.copy_(start)
    graph.replay()
    assert torch.equal(sample.states, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    "shape", [(2, 320, 64, 64), (2, 2560, 16, 16), (1, 128, 512, 512), (3, 96, 17, 9)]
)
def test_group_norm_silu_agrees_with_float64(
    device: torch.device, dtype: torch.dtype, channels_last: bool, shape: tuple[int, int, int, int]
) -> None:
    triton_norm = pytest.importorskip("argus.kernels.triton_norm")
    sample = NormSample.random(device, NormShape(shape, 32, dtype, channels_last))
    ours = sample.run(triton_norm)
    assert ours.dtype == dtype
    assert ours.stride() == sample.x.stride()
    expected = reference.group_norm_silu(
        sample.x.double(), 32, sample.weight.double(), sample.bias.double(), 1e-5
    )
    tolerance = 1e-5 if dtype == torch.float32 else 4 * torch.finfo(dtype).eps
    torch.testing.assert_close(ours.double(), expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("channels_last", [False, True])
def test_group_norm_silu_keeps_the_variance_of_a_mean_far_from_zero(
    device: torch.device, channels_last: bool
) -> None:
    triton_norm = pytest.importorskip("argus.kernels.triton_norm")
    shape = NormShape((1, 64, 256, 256), 32, torch.float32, channels_last)
    sample = NormSample.random(device, shape)
    far = replace(sample, x=sample.x + 1e4)
    expected = reference.group_norm_silu(
        far.x.double(), 32, far.weight.double(), far.bias.double(), 1e-5
    )
    ours = far.run(triton_norm).double()
    torch.testing.assert_close(ours, expected, atol=4e-3, rtol=0)


@pytest.mark.parametrize("graphed", [False, True])
def test_the_choice_is_the_fastest_of_what_was_measured(
    device: torch.device, graphed: bool
) -> None:
    step = choose.choose_step(device, torch.float16, (4, 64, 64), graphed=graphed)
    shape = NormShape((2, 320, 64, 64), 32, torch.float16, True)
    norm = choose.choose_norm(device, shape, graphed=graphed)
    for measured, names in ((step.measured, 3), (norm.measured, 2)):
        assert "torch" in measured.seconds
        assert len(measured.seconds) + len(measured.left_out) == names
        assert measured.seconds[measured.name] == min(measured.seconds.values())
        assert all(0 < seconds < 1 for seconds in measured.seconds.values())


def test_a_unet_with_fused_norms_agrees_with_the_original(device: torch.device) -> None:
    from diffusers import UNet2DConditionModel

    triton_norm = pytest.importorskip("argus.kernels.triton_norm")
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=8,
    )
    unet = unet.eval().to(device, torch.float32)
    x = torch.randn(2, 4, 32, 32, device=device)
    text = torch.randn(2, 7, 16, device=device)

    def run() -> Any:
        with torch.inference_mode():
            return unet(x, 10, text).sample

    before = run()
    shapes = norm_shapes(unet, run)
    fused = fuse_norms(unet, NormByShape(dict.fromkeys(shapes, triton_norm.group_norm_silu)))
    ours = run()
    fused.undo()
    assert torch.equal(run(), before)
    torch.testing.assert_close(ours, before, atol=1e-3, rtol=0)


def test_a_longer_call_takes_longer(device: torch.device) -> None:
    def copies(count: int) -> Callable[[], object]:
        source = torch.zeros(count, device=device)
        return lambda: source.clone()

    short, long = (seconds_per_call(copies(n), device, True) for n in (1 << 20, 1 << 28))
    assert 0 < short < long


def test_the_library_is_built_for_this_device(device: torch.device, tmp_path: Path) -> None:
    try:
        build.find_compiler()
    except FailedPreconditionError:
        pytest.skip("no nvcc here")
    major, minor = torch.cuda.get_device_capability(device)
    library = build.build(tmp_path / "libargus_step.so", [f"sm_{major}{minor}"])
    assert cuda_step.load(library).argus_step_source().decode() == build.source_digest()
