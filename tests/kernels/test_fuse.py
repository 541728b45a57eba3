"""Exchanged norms change neither what a model computes nor the model itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D
from torch import nn

from argus.kernels import reference
from argus.kernels.fuse import fuse_norms, norm_shapes
from argus.kernels.norm_shape import NormByShape, NormShape

Call = Callable[..., Any]
Forward = Callable[[], torch.Tensor]


def tiny_unet(**overrides: Any) -> UNet2DConditionModel:
    torch.manual_seed(1)
    config: dict[str, Any] = {
        "sample_size": 8,
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "norm_num_groups": 4,
        "cross_attention_dim": 8,
        "attention_head_dim": 4,
    }
    return UNet2DConditionModel(**(config | overrides)).eval()


def tiny_vae() -> AutoencoderKL:
    torch.manual_seed(2)
    return AutoencoderKL(
        block_out_channels=(16, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=4,
    ).eval()


def unet_forward(unet: UNet2DConditionModel) -> Forward:
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(2, 4, 8, 8, generator=draw)
    text = torch.randn(2, 5, 8, generator=draw)
    times = torch.tensor([7.0, 300.0])

    def run() -> torch.Tensor:
        with torch.inference_mode():
            out: torch.Tensor = unet(x, times, text).sample
        return out

    return run


def vae_forward(vae: AutoencoderKL) -> Forward:
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(4))

    def run() -> torch.Tensor:
        with torch.inference_mode():
            out: torch.Tensor = vae.decode(vae.encode(x).latent_dist.mean).sample
        return out

    return run


def cases() -> list[tuple[nn.Module, Forward, int]]:
    """Return models, a forward of each, and the norms outside of blocks that a SiLU follows."""
    unet, vae = tiny_unet(), tiny_vae()
    return [(unet, unet_forward(unet), 1), (vae, vae_forward(vae), 2)]


@pytest.mark.parametrize("case", [0, 1], ids=["unet", "vae"])
def test_a_fused_model_gives_the_same_bits_and_undo_restores_it(case: int) -> None:
    model, run, tails = cases()[case]
    before, modules = run(), dict(model.named_modules())
    names = list(model.state_dict())
    calls = []

    def counting(x: torch.Tensor, *rest: Any) -> torch.Tensor:
        calls.append(tuple(x.shape))
        return reference.group_norm_silu(x, *rest)

    fused = fuse_norms(model, counting)
    blocks = [m for m in model.modules() if isinstance(m, ResnetBlock2D)]
    assert fused.count == 2 * len(blocks) + tails
    assert torch.equal(run(), before)
    assert len(calls) == fused.count
    assert list(model.state_dict()) == names

    fused.undo()
    assert dict(model.named_modules()) == modules
    assert torch.equal(run(), before)
    assert len(calls) == fused.count


@pytest.mark.parametrize(
    ("case", "channels_last"), [(0, False), (1, True)], ids=["unet", "vae-channels-last"]
)
def test_a_model_with_the_triton_kernels_agrees_with_the_original(
    interpreted: Call, case: int, channels_last: bool
) -> None:
    triton_norm = pytest.importorskip("argus.kernels.triton_norm")
    model, run, _ = cases()[case]
    if channels_last:
        model.to(memory_format=torch.channels_last)
    before = run()

    def kernel(x: torch.Tensor, *rest: Any) -> torch.Tensor:
        plain = (r.detach().clone() if isinstance(r, torch.Tensor) else r for r in rest)
        y: torch.Tensor = interpreted(triton_norm.group_norm_silu, x.clone(), *plain)
        return y

    fuse_norms(model, kernel)
    torch.testing.assert_close(run(), before, atol=2e-5, rtol=0)


def test_fusing_twice_changes_nothing_more() -> None:
    unet = tiny_unet()
    assert fuse_norms(unet, reference.group_norm_silu).count > 0
    assert fuse_norms(unet, reference.group_norm_silu).count == 0


def test_norms_that_something_else_follows_are_left_alone() -> None:
    shifted = tiny_unet(resnet_time_scale_shift="scale_shift")
    run = unet_forward(shifted)
    before = run()
    assert fuse_norms(shifted, reference.group_norm_silu).count == 1
    assert torch.equal(run(), before)
    assert fuse_norms(tiny_unet(act_fn="gelu"), reference.group_norm_silu).count == 0


def test_the_shapes_seen_are_those_of_the_norms_themselves() -> None:
    unet = tiny_unet()
    run, seen = unet_forward(unet), set()

    def note(norm: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        seen.add(tuple(inputs[0].shape))

    hooks = [
        getattr(m, name).register_forward_pre_hook(note)
        for m in unet.modules()
        if isinstance(m, ResnetBlock2D)
        for name in ("norm1", "norm2")
    ]
    hooks.append(unet.conv_norm_out.register_forward_pre_hook(note))
    run()
    for hook in hooks:
        hook.remove()
    shapes = norm_shapes(unet, run)
    assert {shape.shape for shape in shapes} == seen
    assert len(set(shapes)) == len(shapes)
    assert {(s.groups, s.dtype, s.channels_last) for s in shapes} == {(4, torch.float32, False)}


def test_each_shape_gets_its_winner_and_an_unknown_one_plain_torch() -> None:
    ones, zeros = torch.ones(8), torch.zeros(8)
    known, other = torch.randn(2, 8, 4, 4), torch.randn(2, 8, 4, 5)
    winners = {NormShape.of(known, 2): lambda x, *rest: x.neg()}
    kernel = NormByShape(winners)
    assert torch.equal(kernel(known, 2, ones, zeros, 1e-5), known.neg())
    expected = reference.group_norm_silu(known, 4, ones, zeros, 1e-5)
    assert torch.equal(kernel(known, 4, ones, zeros, 1e-5), expected)
    expected = reference.group_norm_silu(other, 2, ones, zeros, 1e-5)
    assert torch.equal(kernel(other, 2, ones, zeros, 1e-5), expected)
