"""Stable Diffusion 1.x and 2.x, and every other folder of a StableDiffusionPipeline."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline

from argus.diffusion.adapter import TextEncoding
from argus.diffusion.folder import read_json
from argus.diffusion.samplers import SAMPLERS
from argus.diffusion.schedules import build_table, default_sampler
from argus.diffusion.tables import StepTable
from argus.errors import ModelError
from argus.types import VariantInfo

DEFAULT_STEPS = 50
DEFAULT_GUIDANCE = 7.5


def load_stable_diffusion(
    name: str, folder: Path, device: torch.device, dtype: torch.dtype
) -> StableDiffusionAdapter:
    """Load the modules of a StableDiffusionPipeline folder, from safetensors only."""
    pipeline = StableDiffusionPipeline.from_pretrained(  # type: ignore[no-untyped-call]
        folder,
        dtype=dtype,
        local_files_only=True,
        use_safetensors=True,
        safety_checker=None,
        requires_safety_checker=False,
    )
    return StableDiffusionAdapter(name, folder, pipeline, device, dtype)


class StableDiffusionAdapter:
    """UNet, VAE and CLIP text encoder of one StableDiffusionPipeline folder."""

    def __init__(
        self, name: str, folder: Path, pipeline: Any, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.device = device
        self.dtype = dtype
        self._tokenizer = pipeline.tokenizer
        self._text_encoder = pipeline.text_encoder.to(device).eval()
        self._unet = pipeline.unet.to(device).eval()
        self._vae = pipeline.vae.to(device).eval()
        if self._unet.config.time_cond_proj_dim is not None:
            raise ModelError(f"{folder}: a UNet with guidance embedding is not served")
        self._scheduler_config = dict(pipeline.scheduler.config)
        self._scheduler_config["_class_name"] = type(pipeline.scheduler).__name__
        self._table = lru_cache(maxsize=256)(self._build_table)
        self._vae_scale = int(pipeline.vae_scale_factor)
        self.text_shape = (
            int(self._tokenizer.model_max_length),
            int(self._unet.config.cross_attention_dim),
        )
        self.info = self._describe(name, folder)

    def _describe(self, name: str, folder: Path) -> VariantInfo:
        """Return what the folder allows; an argus.json in it may state its own defaults."""
        own = read_json(folder, "argus.json") if (folder / "argus.json").exists() else {}
        unknown = set(own) - {"default_steps", "default_guidance"}
        if unknown:
            raise ModelError(f"{folder}: argus.json: unknown {', '.join(sorted(unknown))}")
        side = int(self._unet.config.sample_size) * self._vae_scale
        levels = len(self._unet.config.block_out_channels)
        return VariantInfo(
            name=name,
            pipeline="StableDiffusionPipeline",
            width=side,
            height=side,
            # Each UNet level halves the latents; sizes that do not divide are not served.
            size_multiple=self._vae_scale * 2 ** (levels - 1),
            max_size=2 * side,
            samplers=tuple(SAMPLERS),
            default_sampler=default_sampler(self._scheduler_config),
            default_steps=int(own.get("default_steps", DEFAULT_STEPS)),
            default_guidance=float(own.get("default_guidance", DEFAULT_GUIDANCE)),
        )

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """Return (channels, height, width) of the latents."""
        channels = int(self._unet.config.in_channels)
        return channels, height // self._vae_scale, width // self._vae_scale

    def step_table(self, sampler: str, steps: int) -> StepTable:
        """Return the table under the folder's scheduler config; tables are kept."""
        return self._table(sampler, steps)

    def _build_table(self, sampler: str, steps: int) -> StepTable:
        return build_table(sampler, self._scheduler_config, steps)

    @torch.inference_mode()
    def encode_text(self, text: str) -> TextEncoding:
        """Encode one text padded to the tokenizer's length, as StableDiffusionPipeline does."""
        length = self._tokenizer.model_max_length
        tokens = self._tokenizer(
            text, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        whole = self._tokenizer(text, padding="longest", return_tensors="pt").input_ids
        cut = ""
        if whole.shape[-1] > length:
            cut = self._tokenizer.decode(whole[0, length - 1 : -1], skip_special_tokens=True)
        uses_mask = bool(self._text_encoder.config.to_dict().get("use_attention_mask", False))
        mask = tokens.attention_mask.to(self.device) if uses_mask else None
        hidden = self._text_encoder(tokens.input_ids.to(self.device), attention_mask=mask)[0]
        return TextEncoding(hidden[0].to(self.dtype), cut)

    @torch.inference_mode()
    def forward(
        self, latents: torch.Tensor, timesteps: torch.Tensor, hidden: torch.Tensor
    ) -> torch.Tensor:
        """Return the UNet's output; shapes as in `PipelineAdapter.forward`."""
        output = self._unet(latents, timesteps, encoder_hidden_states=hidden, return_dict=False)
        result: torch.Tensor = output[0]
        return result

    @torch.inference_mode()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode to uint8 pixels, rounded as diffusers' image processor does."""
        scaled = (latents / self._vae.config.scaling_factor).to(self.dtype)
        image = self._vae.decode(scaled, return_dict=False)[0]
        unit = (image.float() * 0.5 + 0.5).clamp(0, 1)
        pixels: torch.Tensor = (unit * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
        return pixels.cpu()
