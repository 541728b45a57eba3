"""Broken folders of a UNet family and of a transformer family: refused, and it is said why."""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path

import pytest
import torch

from argus.diffusion.adapter import load_variant
from argus.diffusion.unet import check_unet
from argus.errors import ModelError

from .spoil import (
    Spoil,
    add_weight,
    configure,
    lose_a_shard,
    lose_weight,
    pickle,
    poison_weight,
    rebuild_unet,
    remove,
    reshape_weight,
    truncate,
    unname,
    write,
)

INDEX = "model_index.json"


def common(denoiser: str, weight: str, text: str, vae_weight: str) -> list[tuple[str, Spoil, str]]:
    """Cases for any family: what is done, how, and what the error says of part and reason."""
    shown = re.escape(weight)
    return [
        ("no index", remove(INDEX), "model_index.json is missing"),
        ("index cut", write(INDEX, '{"_class_name": '), "model_index.json cannot be read"),
        ("index a list", write(INDEX, "[]"), "model_index.json must hold a JSON object"),
        (
            "foreign library",
            configure(INDEX, vae=["my_models", "MyVAE"]),
            "vae: model_index.json names MyVAE of 'my_models'; only classes of diffusers and",
        ),
        (
            "code in the folder",
            configure(INDEX, **{denoiser: ["diffusers_modules.local.net", "Net"]}),
            f"{denoiser}: model_index.json names Net of 'diffusers_modules.local.net'",
        ),
        (
            "unknown class",
            configure(INDEX, scheduler=["diffusers", "DreamScheduler"]),
            "scheduler: diffusers has no class DreamScheduler",
        ),
        (
            "custom pipeline",
            configure(INDEX, _class_name=["pipeline", "MyPipeline"]),
            r"pipeline \['pipeline', 'MyPipeline'\] is not served",
        ),
        ("entry no pair", configure(INDEX, vae=["diffusers"]), "vae: model_index.json must name"),
        (
            "control network",
            configure(INDEX, controlnet=["diffusers", "ControlNetModel"]),
            "model_index.json names controlnet, which .* does not use",
        ),
        ("part unnamed", unname(denoiser), f"model_index.json names no {denoiser}"),
        ("no vae folder", remove("vae"), "the folder vae/ is missing"),
        ("no scheduler folder", remove("scheduler"), "the folder scheduler/ is missing"),
        (
            "no scheduler config",
            remove("scheduler/scheduler_config.json"),
            "scheduler/ is incomplete: scheduler_config.json is missing",
        ),
        (
            "scheduler config cut",
            write("scheduler/scheduler_config.json", "{"),
            "scheduler/scheduler_config.json cannot be read",
        ),
        (
            "no vocabulary",
            remove("tokenizer/tokenizer.json"),
            "tokenizer/ is incomplete: it holds none of tokenizer.json",
        ),
        (
            "no tokenizer config",
            remove("tokenizer/tokenizer_config.json"),
            "tokenizer/ is incomplete: it states no model_max_length",
        ),
        ("no config", remove("vae/config.json"), "vae/ is incomplete: config.json is missing"),
        ("config cut", write("vae/config.json", "{"), "vae/config.json cannot be read"),
        ("pickled", pickle(denoiser), f"{denoiser}/ holds no .safetensors file"),
        ("header cut", truncate(denoiser, 0.001), f"{denoiser}/.*safetensors cannot be read"),
        ("half a file", truncate(denoiser, 0.5), f"{denoiser}/.*safetensors cannot be read"),
        ("half a text file", truncate(text, 0.9), f"{text}/model.safetensors cannot be read"),
        (
            "no such shard",
            lose_a_shard(denoiser),
            f"{denoiser}/ is incomplete: part-2.safetensors is missing",
        ),
        ("no weight", lose_weight(denoiser, weight), f"{denoiser}: 1 weights .* such as {shown}"),
        ("shape", reshape_weight(denoiser, weight), f"{denoiser}: 1 weights .* such as {shown}"),
        (
            "not a number",
            poison_weight(denoiser, weight, math.nan),
            f"{denoiser}: the weight {shown} is not finite",
        ),
        (
            "infinite",
            poison_weight("vae", vae_weight, -math.inf),
            f"vae: the weight {re.escape(vae_weight)} is not finite",
        ),
        (
            "adapter left over",
            add_weight(denoiser, "attn.processor.to_k_ip.weight"),
            f"{denoiser}: 1 weights of an adapter are left over, such as attn.processor.to_k_ip",
        ),
    ]


UNET_CASES = [
    *common("unet", "conv_in.weight", "text_encoder", "decoder.layers.0.weight"),
    (
        "refiner",
        configure(INDEX, _class_name="StableDiffusionXLImg2ImgPipeline"),
        "'StableDiffusionXLImg2ImgPipeline' needs more than a text",
    ),
    (
        "no text encoder",
        configure(INDEX, text_encoder=[None, None]),
        "model_index.json states no text_encoder",
    ),
    (
        "inpainting",
        rebuild_unet(in_channels=9),
        "unet takes 9 channels and the VAE's latents have 4: one for inpainting",
    ),
    ("learned variance", rebuild_unet(out_channels=8), "unet gives 8 channels, not 4"),
    ("class labels", rebuild_unet(num_class_embeds=3), "unet wants class labels"),
    (
        "image prompt",
        rebuild_unet(encoder_hid_dim=8, encoder_hid_dim_type="image_proj"),
        "unet has encoder_hid_dim_type 'image_proj'; an image prompt adapter is not served",
    ),
    (
        "image prompt adapter",
        configure("unet/config.json", encoder_hid_dim=8, encoder_hid_dim_type="ip_image_proj"),
        "unet: cannot be loaded: .*ip_image_proj",
    ),
    ("oblong", configure("unet/config.json", sample_size=[8, 16]), "sample_size as one number"),
    ("no merges", write("tokenizer/tokenizer.json", "{"), "cannot be loaded"),
    (
        "thresholding",
        configure("scheduler/scheduler_config.json", thresholding=True),
        "thresholding",
    ),
]
TRANSFORMER_CASES = [
    *common("transformer", "proj_out.weight", "text_encoder_3", "decoder.conv_out.weight"),
    ("no t5 folder", remove("text_encoder_3"), "the folder text_encoder_3/ is missing"),
    ("t5 alone", configure(INDEX, tokenizer_3=[None, None]), "go together"),
    (
        "other schedule",
        configure(INDEX, scheduler=["diffusers", "EulerDiscreteScheduler"]),
        "scheduler config: EulerDiscreteScheduler is not served",
    ),
    ("no shift", configure("vae/config.json", shift_factor=None), "shift_factor"),
]


def refused(folder: Path, copy: Path, spoil: Spoil, words: str) -> None:
    shutil.copytree(folder, copy)
    spoil(copy)
    with pytest.raises(ModelError, match=words) as caught:
        load_variant(copy, torch.device("cpu"), torch.float32)
    assert str(caught.value).startswith(f"{copy}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spoil", "words"), [case[1:] for case in UNET_CASES], ids=[case[0] for case in UNET_CASES]
)
def test_a_broken_unet_folder_is_refused_by_part_and_reason(
    tiny_folders: dict[str, Path], tmp_path: Path, spoil: Spoil, words: str
) -> None:
    refused(tiny_folders["tiny-eps"], tmp_path / "copy", spoil, words)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [case[1:] for case in TRANSFORMER_CASES],
    ids=[case[0] for case in TRANSFORMER_CASES],
)
def test_a_broken_transformer_folder_is_refused_by_part_and_reason(
    tiny_sd3_folders: dict[str, Path], tmp_path: Path, spoil: Spoil, words: str
) -> None:
    refused(tiny_sd3_folders["tiny-sd3"], tmp_path / "copy", spoil, words)


def test_a_refiners_unet_in_an_xl_folder_is_refused(
    tiny_xl_folders: dict[str, Path], tmp_path: Path
) -> None:
    spoil = rebuild_unet(projection_class_embeddings_input_dim=5 * 8 + 16)
    words = "unet takes 56 numbers beside the text, .* a refiner is not served"
    refused(tiny_xl_folders["tiny-xl"], tmp_path / "copy", spoil, words)


def test_a_unet_that_wants_pictures_as_conditions_is_refused() -> None:
    whole = {"in_channels": 4, "out_channels": 4, "sample_size": 8}
    check_unet(Path("folder"), whole, {"latent_channels": 4})
    with pytest.raises(ModelError, match="folder: unet has addition_embed_type 'image'"):
        check_unet(Path("folder"), whole | {"addition_embed_type": "image"}, {"latent_channels": 4})
