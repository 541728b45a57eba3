"""Previews: a linear map from latents to colours, against what the VAE draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from tiny_models import TINY

from argus.diffusion.adapter import load_variant
from argus.diffusion.preview import PreviewMap, fit_preview
from argus.models import bundled_variants

CPU = torch.device("cpu")


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(np.corrcoef(a.double().flatten(), b.double().flatten())[0, 1])


def shrunk(pixels: torch.Tensor, factor: int) -> torch.Tensor:
    """Average uint8 (h, w, 3) over squares."""
    planes = pixels.float().permute(2, 0, 1)
    return torch.nn.functional.avg_pool2d(planes, factor).permute(1, 2, 0)


def test_a_bundled_preview_resembles_the_picture() -> None:
    folder = bundled_variants()["scenes-base"]
    adapter = load_variant(folder, CPU, torch.float32)
    pipeline = DiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    prompts = ["a red circle left of a blue square", "a green ring", "a purple star"]
    latents = pipeline(
        prompts,
        num_inference_steps=10,
        guidance_scale=5.0,
        generator=[torch.Generator().manual_seed(3) for _ in prompts],
        output_type="latent",
    ).images
    pictures = [shrunk(picture, 8) for picture in adapter.decode(latents)]
    previews = [adapter.preview(one).float() for one in latents]
    found = [correlation(a, b) for a, b in zip(pictures, previews, strict=True)]
    # Measured 0.77, 0.76, 0.72. This VAE's latents stand for shapes as much as for colours: the
    # best linear map there is, fitted to such pictures themselves, has 0.87, 0.76, 0.62.
    assert min(found) >= 0.6, found
    assert np.mean(found) >= 0.7, found


def test_the_map_is_the_one_that_made_the_pictures() -> None:
    matrix = torch.tensor([[0.2, 0.0, 0.1, 0.0], [0.0, 0.3, 0.0, 0.1], [-0.1, 0.0, 0.2, 0.0]])
    bias = torch.tensor([0.1, -0.1, 0.0])

    def decode(latents: torch.Tensor) -> torch.Tensor:
        image = torch.einsum("rc,nchw->nrhw", matrix, latents) * 0.5 + bias[:, None, None]
        return torch.nn.functional.interpolate(image, scale_factor=4, mode="nearest")

    found = fit_preview(None, decode, channels=4, scale=4)
    torch.testing.assert_close(found.matrix, matrix * 0.25, atol=1e-3, rtol=1e-2)
    torch.testing.assert_close(found.bias, bias * 0.5 + 0.5, atol=1e-3, rtol=0)
    assert found.explained == pytest.approx(1.0, abs=1e-3)


def test_an_encoder_that_fails_leaves_the_map_to_the_decoder() -> None:
    def decode(latents: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(latents[:, :3] * 0.2, scale_factor=2)

    def broken(pictures: torch.Tensor) -> torch.Tensor:
        return torch.full((len(pictures), 4, 16, 16), torch.nan)

    without, with_broken = (fit_preview(e, decode, channels=4, scale=2) for e in (None, broken))
    torch.testing.assert_close(without.matrix, torch.eye(3, 4) * 0.1, atol=1e-3, rtol=0)
    torch.testing.assert_close(with_broken.matrix, torch.eye(3, 4) * 0.1, atol=1e-3, rtol=0)
    with pytest.raises(ArithmeticError, match="not finite"):
        fit_preview(None, lambda z: decode(z) * torch.nan, channels=4, scale=2)


def test_latents_that_are_not_finite_give_no_preview() -> None:
    found = PreviewMap(torch.ones(3, 4), torch.zeros(3), 1.0)
    latents = torch.full((4, 2, 5), 0.1)
    assert found.picture(latents).unique().tolist() == [102]
    assert found.picture(latents).shape == (2, 5, 3)
    latents[0, 1, 2] = torch.inf
    with pytest.raises(ArithmeticError, match="not finite"):
        found.picture(latents)


@pytest.mark.parametrize("name", ["tiny-eps", "tiny-sd3"])
def test_latents_of_the_pipeline_and_of_its_vae_are_turned_into_each_other(
    tmp_path: Path, name: str
) -> None:
    adapter = load_variant(TINY[name](tmp_path / name), CPU, torch.float32)
    config = adapter._modules["vae"].config
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    own = latents / config.scaling_factor + (config.shift_factor or 0.0)
    torch.testing.assert_close(adapter._to_vae(latents), own)
    torch.testing.assert_close(adapter._from_vae(own), latents)
    matrix, bias = adapter.preview_map()
    assert (matrix.shape, bias.shape) == ((3, 4), (3,))
    preview = adapter.preview(latents[0])
    assert (preview.shape, preview.dtype) == ((8, 8, 3), torch.uint8)
