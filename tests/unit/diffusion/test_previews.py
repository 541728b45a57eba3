"""Previews: a linear map from latents to colours, against what the VAE draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import previews
import pytest
import torch
from tiny_models import TINY

from argus.diffusion.adapter import load_variant
from argus.diffusion.preview import PreviewMap, fit_preview
from argus.models import bundled_variants

CPU = torch.device("cpu")


def test_a_bundled_preview_resembles_the_picture() -> None:
    adapter = load_variant(bundled_variants()["scenes-base"], CPU, torch.float32)
    latents, pictures = previews.draw(adapter, previews.prompts(4, held_out=True))
    found = torch.stack([adapter.preview(one) for one in latents]).float()
    likeness = previews.correlations(found, pictures)
    # Colours in their places: this VAE's latents stand for shapes as much. Over 48 held-out
    # prompts `PYTHONPATH=bench python bench/previews.py` found a mean of 0.56 and a least of 0.13
    # (scenes-small: 0.55 and 0.08), and 0.63 and 0.27 for a linear map fitted to other pictures of
    # this family. These four have 0.53, 0.15, 0.69, 0.47.
    assert np.mean(likeness) >= 0.35, likeness
    assert min(likeness) >= 0.05, likeness
    for spoilt in (found.roll(1, dims=0), found.roll(1, dims=3)):  # another's; blue for red
        assert np.mean(previews.correlations(spoilt, pictures)) <= np.mean(likeness) - 0.2


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
