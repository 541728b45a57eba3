"""Random pipelines of a few thousand parameters, one for each family: real folders, real code,
pictures of noise. Tests and benchmarks serve them where trained weights would only cost time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    LCMScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

TOKENS = 16
SCHEDULE: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}
WORDS = ["<|startoftext|>", "<|endoftext|>"] + [
    letter + end for letter in "abcdefghijklmnopqrstuvwxyz ," for end in ("", "</w>")
]


def _tokenizer() -> CLIPTokenizer:
    vocabulary = {word: i for i, word in enumerate(WORDS)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=TOKENS)


def _text_config(layers: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=TOKENS,
        projection_dim=16,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )


def _vae() -> AutoencoderTiny:
    return AutoencoderTiny(
        latent_channels=4,
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
    )


def _unet(width: int, text_width: int, **changes: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(width, 2 * width),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=text_width,
        attention_head_dim=8,
        norm_num_groups=8,
        **changes,
    )


def save_tiny_sd(
    folder: Path,
    seed: int,
    prediction: str,
    width: int = 16,
    *,
    guidance: int | None = None,
    **schedule: Any,
) -> Path:
    """Save a random StableDiffusionPipeline, 32x32 pixels, and return its folder.

    Args:
        folder: where to.
        seed: of the weights.
        prediction: prediction_type of the scheduler.
        width: channels of the UNet's first level.
        guidance: numbers that guidance is embedded in; the folder is then a consistency model's.
        schedule: further options of the scheduler.
    """
    torch.manual_seed(seed)
    kind = DDIMScheduler if guidance is None else LCMScheduler
    options = {"clip_sample": False, "set_alpha_to_one": False, "prediction_type": prediction}
    scheduler = kind(**{**SCHEDULE, **options, **schedule})
    pipeline = StableDiffusionPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(_text_config(1)),
        tokenizer=_tokenizer(),
        unet=_unet(width, 16, time_cond_proj_dim=guidance),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def save_tiny_sdxl(
    folder: Path, seed: int, *, zero_empty_negative: bool = True, guidance: int | None = None
) -> Path:
    """Save a random StableDiffusionXLPipeline, 32x32 pixels, and return its folder.

    Args:
        folder: where to.
        seed: of the weights.
        zero_empty_negative: whether an empty negative prompt becomes zeros.
        guidance: as in `save_tiny_sd`.
    """
    torch.manual_seed(seed)
    leading = {"timestep_spacing": "leading"}
    kind = EulerDiscreteScheduler if guidance is None else LCMScheduler
    time_width = 8
    unet = _unet(
        16,
        32,
        addition_embed_type="text_time",
        addition_time_embed_dim=time_width,
        projection_class_embeddings_input_dim=6 * time_width + 16,
        time_cond_proj_dim=guidance,
    )
    pipeline = StableDiffusionXLPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(_text_config(2)),
        text_encoder_2=CLIPTextModelWithProjection(_text_config(2)),
        tokenizer=_tokenizer(),
        tokenizer_2=_tokenizer(),
        unet=unet,
        scheduler=kind(**SCHEDULE, **(leading if guidance is None else {"clip_sample": False})),
        force_zeros_for_empty_prompt=zero_empty_negative,
        add_watermarker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def _t5_tokenizer() -> T5Tokenizer:
    marks = ["<pad>", "</s>", "<unk>", "\u2581"]
    vocabulary = [(mark, 0.0) for mark in marks] + [(w, -3.0) for w in "abcdefghijklmnopqrstuvwxyz"]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=512)


def _t5(width: int) -> T5EncoderModel:
    config = T5Config(
        vocab_size=32, d_model=width, d_kv=8, d_ff=32, num_layers=1, num_heads=2, dropout_rate=0.0
    )
    return T5EncoderModel(config)


def _shifted_vae() -> AutoencoderKL:
    return AutoencoderKL(
        latent_channels=4,
        block_out_channels=(8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        scaling_factor=1.5305,
        shift_factor=0.0609,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def save_tiny_sd3(folder: Path, seed: int, *, t5: bool = True, **schedule: Any) -> Path:
    """Save a random StableDiffusion3Pipeline, 32x32 pixels, and return its folder.

    Args:
        folder: where to.
        seed: of the weights.
        t5: whether it has its third text encoder.
        schedule: options of its scheduler beside a shift of 3.
    """
    torch.manual_seed(seed)
    text_width = 40
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=text_width,
        caption_projection_dim=16,
        pooled_projection_dim=32,
        pos_embed_max_size=12,
    )
    # A fresh transformer of this family ends in zeros and would give e = 0.
    torch.nn.init.normal_(transformer.proj_out.weight, std=0.5)
    pipeline = StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(**{"shift": 3.0, **schedule}),
        vae=_shifted_vae(),
        text_encoder=CLIPTextModelWithProjection(_text_config(2)),
        tokenizer=_tokenizer(),
        text_encoder_2=CLIPTextModelWithProjection(_text_config(2)),
        tokenizer_2=_tokenizer(),
        text_encoder_3=_t5(text_width) if t5 else None,
        tokenizer_3=_t5_tokenizer() if t5 else None,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def save_tiny_flux(folder: Path, seed: int, *, guidance: bool = True, **schedule: Any) -> Path:
    """Save a random FluxPipeline and return its folder.

    Args:
        folder: where to.
        seed: of the weights.
        guidance: whether the transformer takes it as an input.
        schedule: options of its scheduler.
    """
    torch.manual_seed(seed)
    text_width = 32
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=text_width,
        pooled_projection_dim=16,
        guidance_embeds=guidance,
        axes_dims_rope=(4, 6, 6),
    )
    torch.nn.init.normal_(transformer.proj_out.weight, std=0.3)
    pipeline = FluxPipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(**schedule),
        vae=_shifted_vae(),
        text_encoder=CLIPTextModel(_text_config(1)),
        tokenizer=_tokenizer(),
        text_encoder_2=_t5(text_width),
        tokenizer_2=_t5_tokenizer(),
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


TINY: Mapping[str, Callable[[Path], Path]] = {
    "tiny-eps": lambda f: save_tiny_sd(f, 1, "epsilon"),
    "tiny-v": lambda f: save_tiny_sd(f, 2, "v_prediction", width=24),
    "tiny-v-zero-snr": lambda f: save_tiny_sd(
        f, 12, "v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"
    ),
    "tiny-xl": lambda f: save_tiny_sdxl(f, 3),
    "tiny-xl-coded": lambda f: save_tiny_sdxl(f, 4, zero_empty_negative=False),
    "tiny-lcm": lambda f: save_tiny_sd(f, 10, "epsilon", guidance=32),
    "tiny-lcm-xl": lambda f: save_tiny_sdxl(f, 11, guidance=32),
    "tiny-sd3": lambda f: save_tiny_sd3(f, 5),
    "tiny-sd3-no-t5": lambda f: save_tiny_sd3(f, 6, t5=False, use_dynamic_shifting=True),
    "tiny-flux": lambda f: save_tiny_flux(f, 8, use_dynamic_shifting=True, shift=3.0),
    "tiny-flux-fast": lambda f: save_tiny_flux(f, 9, guidance=False),
}
"""Every kind of folder that is served, by name; each takes the folder to write and returns it."""
