"""What a model folder must hold, and what is said when it does not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

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


def lose_a_weight(folder: Path) -> None:
    file = folder / "unet" / WEIGHTS
    weights = load_file(file)
    del weights["conv_in.weight"]
    save_file(weights, file, metadata={"format": "pt"})


def swap_weights(folder: Path) -> None:
    shutil.copy(folder / "vae" / WEIGHTS, folder / "unet" / WEIGHTS)


def pickle_weights(folder: Path) -> None:
    (folder / "unet" / WEIGHTS).unlink()
    torch.save({}, folder / "unet" / "diffusion_pytorch_model.bin")


def truncate_weights(folder: Path) -> None:
    file = folder / "unet" / WEIGHTS
    file.write_bytes(file.read_bytes()[:1000])


def empty_tokenizer(folder: Path) -> None:
    for file in (folder / "tokenizer").iterdir():
        file.unlink()


def threshold_samples(folder: Path) -> None:
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"thresholding": True}))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lose_a_weight, "unet: 1 weights are missing or of another shape, such as conv_in.weight"),
        (swap_weights, "unet: .* weights are missing"),
        (pickle_weights, "unet/ holds no .safetensors file"),
        (truncate_weights, "cannot be loaded"),
        (lambda f: shutil.rmtree(f / "vae"), "the folder vae/ is missing"),
        (lambda f: shutil.rmtree(f / "scheduler"), "the folder scheduler/ is missing"),
        (empty_tokenizer, "tokenizer"),
        (threshold_samples, "thresholding"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_spoiled_folders_are_refused_with_the_part_named(
    folder: Path, spoil: Callable[[Path], None], words: str
) -> None:
    spoil(folder)
    with pytest.raises(ModelError, match=words) as caught:
        load_variant(folder, CPU, torch.float32)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


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
