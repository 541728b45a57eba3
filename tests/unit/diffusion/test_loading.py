"""What a model folder must hold, and what is said when it does not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from argus.diffusion.adapter import load_variant
from argus.diffusion.pixels import to_pixels
from argus.diffusion.schedules import build_table, served_samplers
from argus.errors import InvalidArgumentError, ModelError

CPU = torch.device("cpu")
WEIGHTS = "diffusion_pytorch_model.safetensors"
SD15_SCHEDULE = {
    "_class_name": "PNDMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
}


@pytest.fixture
def folder(tiny_folders: dict[str, Path], tmp_path: Path) -> Path:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_folders["tiny-eps"], copy)
    return copy


def test_weights_stored_as_the_fp16_variant_are_found(folder: Path) -> None:
    for part in ("unet", "vae"):
        (folder / part / WEIGHTS).rename(folder / part / "diffusion_pytorch_model.fp16.safetensors")
    text = folder / "text_encoder"
    (text / "model.safetensors").rename(text / "model.fp16.safetensors")
    assert load_variant(folder, CPU, torch.float32).info.name == "copy"


def test_a_folder_offers_only_the_samplers_it_can_run() -> None:
    assert "pndm" in served_samplers(SD15_SCHEDULE)
    clean = SD15_SCHEDULE | {"prediction_type": "sample"}
    assert "pndm" not in served_samplers(clean | {"_class_name": "DDIMScheduler"})
    with pytest.raises(ModelError, match="sampler pndm: .*'sample' is not served"):
        served_samplers(clean)


def test_more_steps_than_a_schedule_can_tell_apart_are_refused_by_field() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        build_table("dpmpp_2m", SD15_SCHEDULE, 1000)
    assert caught.value.field == "steps"


def test_an_overflowed_picture_is_an_error_not_a_black_one() -> None:
    image = torch.zeros(1, 3, 8, 8)
    assert to_pixels(image).unique().tolist() == [128]
    image[0, 0, 0, 0] = float("nan")
    with pytest.raises(ArithmeticError, match="not finite"):
        to_pixels(image)
