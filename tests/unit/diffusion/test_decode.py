"""Decoding: in batches, tile by tile, and in the dtype that the VAE needs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL

from argus.diffusion.adapter import PipelineAdapter, load_variant
from argus.diffusion.preview import colour_pictures
from argus.diffusion.tiling import decode_tiled, starts
from argus.models import bundled_variants

CPU = torch.device("cpu")
CASES = [(8, 16, 4), (16, 16, 4), (17, 16, 4), (40, 16, 4), (64, 32, 8), (100, 16, 4)]


@pytest.fixture(scope="module")
def bundled() -> PipelineAdapter:
    return load_variant(bundled_variants()["scenes-base"], CPU, torch.float32)


def small_vae(levels: int, **options: Any) -> AutoencoderKL:
    torch.manual_seed(3)
    return AutoencoderKL(
        block_out_channels=(8,) * levels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        norm_num_groups=4,
        latent_channels=4,
        **options,
    ).eval()


def smooth(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    coarse = torch.randn((shape[0], shape[1], 5, 5), generator=generator)
    return torch.nn.functional.interpolate(coarse, size=shape[2:], mode="bicubic")


@pytest.mark.parametrize(("length", "tile", "overlap"), CASES)
def test_tiles_cover_the_length_and_overlap_as_wanted(length: int, tile: int, overlap: int) -> None:
    at = starts(length, tile, overlap)
    ends = [min(length, start + tile) for start in at]
    assert at[0] == 0
    assert ends[-1] == length
    assert all(end - start == min(tile, length) for start, end in zip(at, ends, strict=True))
    assert all(end - start >= overlap for end, start in zip(ends, at[1:], strict=False))


def test_tiling_a_decoder_that_looks_at_one_cell_changes_nothing() -> None:
    latents = torch.randn(2, 3, 40, 23, generator=torch.Generator().manual_seed(1))

    def decode(part: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(part, scale_factor=2, mode="nearest")

    found = decode_tiled(decode, latents, tile=16, scale=2)
    torch.testing.assert_close(found, decode(latents), rtol=1e-6, atol=1e-6)


def test_a_pixel_under_one_tile_only_is_that_tiles_own() -> None:
    vae = small_vae(levels=2)

    def decode(part: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return vae.decode(part, return_dict=False)[0]

    latents = torch.randn(1, 4, 16, 28, generator=torch.Generator().manual_seed(1))
    found = decode_tiled(decode, latents, tile=16, scale=2)
    left, right = decode(latents[..., :16]), decode(latents[..., 12:])
    torch.testing.assert_close(found[..., :24], left[..., :24])
    torch.testing.assert_close(found[..., 32:], right[..., 8:])
    shared = torch.stack([left[..., 24:], right[..., :8]])
    assert (found[..., 24:32] >= shared.amin(0) - 1e-5).all()
    assert (found[..., 24:32] <= shared.amax(0) + 1e-5).all()
    # Half way through the overlap, both count the same.
    middle = shared[..., 3:5].mean(0).mean(-1)
    torch.testing.assert_close(found[..., 27:29].mean(-1), middle, atol=0.1, rtol=0.1)


def test_a_tiled_picture_is_close_to_the_whole_one_and_leaves_no_trace(
    bundled: PipelineAdapter,
) -> None:
    pictures = colour_pictures(2, 320, torch.Generator().manual_seed(0))[..., :192]
    latents = bundled._encode(pictures)
    before = bundled.decode(latents)
    tiled = bundled.decode(latents, tiled=True)
    apart = (before.int() - tiled.int()).abs().float()
    # Measured, of 255: 0.8 on average, 12 for the worst hundredth, which lies where tiles meet:
    # this decoder sees some 16 latents far, four times what tiles of 16 share.
    assert apart.mean().item() <= 1.2
    assert apart.flatten().quantile(0.99).item() <= 18
    assert bundled.decode(latents).equal(before)
    small = latents[..., :16, :16]
    assert bundled.decode(small, tiled=True).equal(bundled.decode(small))


@pytest.mark.parametrize("tiled", [False, True])
def test_a_batch_decodes_to_the_pictures_of_its_members(
    bundled: PipelineAdapter, tiled: bool
) -> None:
    latents = torch.cat([smooth(1, 8, 8, 20), -smooth(1, 8, 8, 20)])
    together = bundled.decode(latents, tiled)
    assert together.shape == (2, 64, 160, 3)
    alone = torch.cat([bundled.decode(one[None], tiled) for one in latents])
    assert (together.int() - alone.int()).abs().max().item() <= 1


def float16_variant(folder: Path) -> PipelineAdapter:
    return load_variant(folder, CPU, torch.float16)


@pytest.mark.parametrize(("upcast", "wanted"), [(True, torch.float32), (False, torch.float16)])
def test_an_xl_folder_decodes_in_float32_where_its_vae_says_so(
    tiny_xl_folders: dict[str, Path],
    tmp_path: Path,
    configured: Callable[..., Path],
    upcast: bool,
    wanted: torch.dtype,
) -> None:
    folder = configured(
        tiny_xl_folders["tiny-xl"], "model_index.json", vae=["diffusers", "AutoencoderKL"]
    )
    shutil.rmtree(folder / "vae")
    small_vae(levels=3, force_upcast=upcast).save_pretrained(folder / "vae")
    adapter = float16_variant(folder)
    assert (adapter.dtype, adapter.decode_dtype) == (torch.float16, wanted)
    seen: list[torch.dtype] = []
    vae = adapter._modules["vae"]
    vae.decoder.register_forward_pre_hook(lambda _, given: seen.append(given[0].dtype))
    assert adapter.decode(torch.zeros(1, 4, 8, 8)).shape == (1, 32, 32, 3)
    assert seen == [wanted]
    adapter.move(torch.device("meta"))
    adapter.move(CPU)
    assert adapter._modules["vae"].dtype == wanted
    assert adapter._modules["unet"].dtype == torch.float16


def test_other_families_decode_in_their_own_dtype(tiny_folders: dict[str, Path]) -> None:
    assert float16_variant(tiny_folders["tiny-eps"]).decode_dtype is torch.float16
