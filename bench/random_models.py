"""Pipelines of the real sizes with random weights, built in memory from their architecture.

A random model takes as long as a trained one. Nothing is saved: the modules are made on the device
and handed to an adapter, or to diffusers, directly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tiny_models import SCHEDULE, WORDS
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from argus.diffusion.adapter import PipelineAdapter
from argus.diffusion.stable_diffusion import StableDiffusionAdapter
from argus.diffusion.stable_diffusion_xl import StableDiffusionXLAdapter

TOKENS = 77
VOCABULARY = 49408


@dataclass(frozen=True, slots=True)
class Recipe:
    """The architecture of a pipeline.

    Attributes:
        name: of the variant.
        unet: config of its UNet2DConditionModel.
        vae: config of its AutoencoderKL.
        texts: configs of its CLIP text encoders; two make it an SDXL pipeline.
    """

    name: str
    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    texts: tuple[Mapping[str, Any], ...]

    @property
    def is_xl(self) -> bool:
        """Whether it is an SDXL pipeline."""
        return len(self.texts) == 2


def _vae(scaling: float, widths: tuple[int, ...], layers: int, **changes: Any) -> dict[str, Any]:
    return {
        "latent_channels": 4,
        "block_out_channels": widths,
        "down_block_types": ("DownEncoderBlock2D",) * len(widths),
        "up_block_types": ("UpDecoderBlock2D",) * len(widths),
        "layers_per_block": layers,
        "scaling_factor": scaling,
        **changes,
    }


def _text(hidden: int, layers: int, heads: int, act: str, vocabulary: int) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": 4 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "projection_dim": hidden,
        "hidden_act": act,
        "max_position_embeddings": TOKENS,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
    }


_XL_BLOCKS: dict[str, Any] = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "addition_embed_type": "text_time",
    "use_linear_projection": True,
}
_BIG_VAE = (128, 256, 512, 512)
_CLIP_L = _text(768, 12, 12, "quick_gelu", VOCABULARY)
_CLIP_G = _text(1280, 32, 20, "gelu", VOCABULARY)

SD15 = Recipe(
    "sd15-random",
    {
        "sample_size": 64,
        "block_out_channels": (320, 640, 1280, 1280),
        "cross_attention_dim": 768,
        "attention_head_dim": 8,
    },
    _vae(0.18215, _BIG_VAE, 2, sample_size=512),
    (_CLIP_L,),
)
SDXL = Recipe(
    "sdxl-random",
    {
        **_XL_BLOCKS,
        "sample_size": 128,
        "block_out_channels": (320, 640, 1280),
        "cross_attention_dim": 2048,
        "attention_head_dim": (5, 10, 20),
        "transformer_layers_per_block": (1, 2, 10),
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
    _vae(0.13025, _BIG_VAE, 2, sample_size=1024),
    (_CLIP_L, _CLIP_G),
)

_TINY_TEXT = _text(16, 2, 2, "gelu", len(WORDS))
_TINY_VAE = _vae(0.18215, (8, 8), 1, norm_num_groups=4)
_TINY: dict[str, Any] = {"sample_size": 8, "layers_per_block": 1, "norm_num_groups": 8}

TINY_SD15 = Recipe(
    "sd15-random",
    {
        **_TINY,
        "block_out_channels": (16, 32),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": 16,
        "attention_head_dim": 8,
    },
    _TINY_VAE,
    (_TINY_TEXT,),
)
TINY_SDXL = Recipe(
    "sdxl-random",
    {
        **_XL_BLOCKS,
        **_TINY,
        "block_out_channels": (16, 16, 32),
        "cross_attention_dim": 32,
        "attention_head_dim": (2, 2, 4),
        "transformer_layers_per_block": (1, 1, 2),
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + 16,
    },
    _TINY_VAE,
    (_TINY_TEXT, _TINY_TEXT),
)


def build_unet(recipe: Recipe) -> UNet2DConditionModel:
    """Return the UNet on torch's current device in its current default dtype."""
    return UNet2DConditionModel(**recipe.unet)


def build_vae(recipe: Recipe) -> AutoencoderKL:
    """Return the VAE, likewise."""
    return AutoencoderKL(**recipe.vae)


def build_texts(recipe: Recipe) -> list[torch.nn.Module]:
    """Return the text encoders, likewise; the second one of SDXL projects its pooled state."""
    kinds = (CLIPTextModel, CLIPTextModelWithProjection)
    return [
        kind(CLIPTextConfig(**config)) for kind, config in zip(kinds, recipe.texts, strict=False)
    ]


def build_pipeline(recipe: Recipe, device: torch.device, dtype: torch.dtype, seed: int) -> Any:
    """Return a diffusers pipeline with weights drawn on the device."""
    torch.manual_seed(seed)
    with torch.device(device), _default_dtype(dtype):
        unet, vae, texts = build_unet(recipe), build_vae(recipe), build_texts(recipe)
    for module in (unet, vae, *texts):
        module.eval().requires_grad_(False)
    vocabulary = {word: i for i, word in enumerate(WORDS)}
    tokenizers = [
        CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=TOKENS) for _ in texts
    ]
    if not recipe.is_xl:
        return StableDiffusionPipeline(
            vae=vae,
            text_encoder=texts[0],
            tokenizer=tokenizers[0],
            unet=unet,
            scheduler=DDIMScheduler(**SCHEDULE, clip_sample=False, set_alpha_to_one=False),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    return StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=texts[0],
        text_encoder_2=texts[1],
        tokenizer=tokenizers[0],
        tokenizer_2=tokenizers[1],
        unet=unet,
        scheduler=EulerDiscreteScheduler(**SCHEDULE, timestep_spacing="leading"),
        add_watermarker=False,
    )


def build_adapter(
    recipe: Recipe, device: torch.device, dtype: torch.dtype, seed: int, folder: Any
) -> PipelineAdapter:
    """Return the pipeline as the engine takes it; `folder` is empty and stands for the model's."""
    pipeline = build_pipeline(recipe, device, dtype, seed)
    kind = StableDiffusionXLAdapter if recipe.is_xl else StableDiffusionAdapter
    return kind(recipe.name, folder, pipeline, device, dtype)


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def parameters(module: torch.nn.Module) -> int:
    """Return how many numbers a module has learnt, or would have."""
    return sum(p.numel() for p in module.parameters())


def forward_flop(recipe: Recipe, side: int) -> int:
    """Return the floating point operations of one lane's forward, counted on shapes alone.

    Args:
        recipe: whose UNet.
        side: of the picture, pixels.
    """
    config = recipe.unet
    with torch.device("meta"), torch.no_grad():
        unet = build_unet(recipe)
        scale = 2 ** (len(recipe.vae["block_out_channels"]) - 1)
        latents = torch.empty(1, 4, side // scale, side // scale)
        hidden = torch.empty(1, TOKENS, config["cross_attention_dim"])
        added = None
        if recipe.is_xl:
            pooled = torch.empty(1, recipe.texts[1]["projection_dim"])
            added = {"text_embeds": pooled, "time_ids": torch.empty(1, 6)}
        with FlopCounterMode(display=False) as counter:
            unet(latents, torch.empty(1), encoder_hidden_states=hidden, added_cond_kwargs=added)
    return int(counter.get_total_flops())
