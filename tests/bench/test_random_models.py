"""Random models have the size of the real ones; built on shapes alone, which takes no memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from random_models import (
    SD15,
    SDXL,
    TINY_SD15,
    TINY_SDXL,
    Recipe,
    build_adapter,
    build_texts,
    build_unet,
    build_vae,
    forward_flop,
    parameters,
)

CLIP_L, CLIP_G, VAE = 123_060_480, 694_659_840, 83_653_863


@pytest.mark.parametrize(
    ("recipe", "unet", "texts"),
    [(SD15, 859_520_964, [CLIP_L]), (SDXL, 2_567_463_684, [CLIP_L, CLIP_G])],
)
def test_parameters_are_those_of_the_published_weights(
    recipe: Recipe, unet: int, texts: list[int]
) -> None:
    with torch.device("meta"):
        assert parameters(build_unet(recipe)) == unet
        assert parameters(build_vae(recipe)) == VAE
        assert [parameters(module) for module in build_texts(recipe)] == texts


@pytest.mark.parametrize(("recipe", "side", "tflop"), [(SD15, 512, 0.80), (SDXL, 1024, 6.76)])
def test_a_forward_takes_the_arithmetic_that_others_counted(
    recipe: Recipe, side: int, tflop: float
) -> None:
    assert forward_flop(recipe, side) / 1e12 == pytest.approx(tflop, rel=0.01)


@pytest.mark.parametrize("recipe", [TINY_SD15, TINY_SDXL], ids=lambda r: r.name)
def test_a_recipe_becomes_an_adapter_that_steps_and_decodes(recipe: Recipe, tmp_path: Path) -> None:
    adapter = build_adapter(recipe, torch.device("cpu"), torch.bfloat16, 1, tmp_path)
    text = adapter.encode("a red circle", False, 16, 16)
    assert text.truncated == ""
    latents = torch.randn((2, *adapter.latent_shape(16, 16)), dtype=torch.bfloat16)
    tensors = {name: torch.stack([t, t]) for name, t in text.tensors.items()}
    out = adapter.forward(latents, torch.tensor([999.0, 1.0]), tensors)
    assert out.shape == latents.shape
    assert out.dtype is torch.bfloat16
    assert adapter.decode(out.float()).shape == (2, 16, 16, 3)
