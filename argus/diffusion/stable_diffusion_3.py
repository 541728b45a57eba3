"""Stable Diffusion 3 and 3.5, and every other folder of a StableDiffusion3Pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusion3Pipeline

from argus.diffusion.adapter import Conditioning
from argus.diffusion.flow import FLOW_SAMPLERS, build_flow_table, make_flow_scheduler
from argus.diffusion.folder import own_defaults, read_json
from argus.diffusion.pixels import to_pixels
from argus.diffusion.tables import StepTable
from argus.diffusion.text import truncated_words
from argus.errors import ModelError
from argus.types import VariantInfo

DEFAULT_STEPS = 28
DEFAULT_GUIDANCE = 7.0
T5_TOKENS = 256
"""Length that the pipeline pads T5's part of the text to."""


def load_stable_diffusion_3(
    name: str, folder: Path, device: torch.device, dtype: torch.dtype
) -> StableDiffusion3Adapter:
    """Load the modules of a StableDiffusion3Pipeline folder, from safetensors only.

    A folder without T5 says null for it, or does not mention it.
    """
    index = read_json(folder, "model_index.json")
    left_out = dict.fromkeys(("image_encoder", "feature_extractor"))
    for part in ("text_encoder_3", "tokenizer_3"):
        if index.get(part) in (None, [None, None]):
            left_out[part] = None
    pipeline = StableDiffusion3Pipeline.from_pretrained(  # type: ignore[no-untyped-call]
        folder,
        dtype=dtype,
        local_files_only=True,
        use_safetensors=True,
        **left_out,
    )
    return StableDiffusion3Adapter(name, folder, pipeline, device, dtype)


class StableDiffusion3Adapter:
    """A transformer that sees the latents beside the text: two CLIP encoders, and T5 if there.

    The text is the CLIP encoders' penultimate states side by side, padded with zeros to T5's
    width, followed by T5's states, or by zeros where the folder has no T5.
    """

    conditioning: Mapping[str, tuple[int, ...]]

    def __init__(
        self, name: str, folder: Path, pipeline: Any, device: torch.device, dtype: torch.dtype
    ) -> None:
        if pipeline.text_encoder is None or pipeline.text_encoder_2 is None:
            raise ModelError(f"{folder}: both CLIP text encoders are needed")
        if pipeline.vae.config.shift_factor is None:
            raise ModelError(f"{folder}: the VAE's config lacks shift_factor")
        self.device = device
        self.dtype = dtype
        self._transformer = pipeline.transformer.to(device).eval()
        self._vae = pipeline.vae.to(device).eval()
        self._vae_scale = int(pipeline.vae_scale_factor)
        self._clips = tuple(
            (tokenizer, encoder.to(device).eval())
            for tokenizer, encoder in (
                (pipeline.tokenizer, pipeline.text_encoder),
                (pipeline.tokenizer_2, pipeline.text_encoder_2),
            )
        )
        self._clip_tokens = int(pipeline.tokenizer.model_max_length)
        self._t5_tokenizer = pipeline.tokenizer_3
        self._t5 = None
        if pipeline.text_encoder_3 is not None:
            self._t5 = pipeline.text_encoder_3.to(device).eval()
        self._scheduler_config = dict(pipeline.scheduler.config)
        self._scheduler_config["_class_name"] = type(pipeline.scheduler).__name__
        make_flow_scheduler(self._scheduler_config)
        self._table = lru_cache(maxsize=256)(self._build_table)
        config = self._transformer.config
        self.conditioning = {
            "hidden": (self._clip_tokens + T5_TOKENS, int(config.joint_attention_dim)),
            "pooled": (int(config.pooled_projection_dim),),
        }
        self.info = self._describe(name, folder, type(pipeline).__name__)

    def _describe(self, name: str, folder: Path, kind: str) -> VariantInfo:
        """Return what the folder allows; an argus.json in it may state its own defaults."""
        own = own_defaults(folder)
        config = self._transformer.config
        side = int(config.sample_size) * self._vae_scale
        patch = int(config.patch_size) * self._vae_scale
        return VariantInfo(
            name=name,
            pipeline=kind,
            width=side,
            height=side,
            size_multiple=patch,
            # Positions are a learned grid; a picture beyond it has none.
            max_size=min(2 * side, int(config.pos_embed_max_size) * patch),
            samplers=FLOW_SAMPLERS,
            default_sampler=FLOW_SAMPLERS[0],
            default_steps=int(own.get("default_steps", DEFAULT_STEPS)),
            default_guidance=float(own.get("default_guidance", DEFAULT_GUIDANCE)),
        )

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """Return (channels, height, width) of the latents."""
        channels = int(self._transformer.config.in_channels)
        return channels, height // self._vae_scale, width // self._vae_scale

    def step_table(self, sampler: str, steps: int, width: int, height: int) -> StepTable:
        """Return the table under the folder's scheduler config; tables are kept."""
        patch = int(self._transformer.config.patch_size) * self._vae_scale
        return self._table(sampler, steps, (height // patch) * (width // patch))

    def _build_table(self, sampler: str, steps: int, image_tokens: int) -> StepTable:
        return build_flow_table(sampler, self._scheduler_config, steps, image_tokens)

    @torch.inference_mode()
    def encode(self, text: str, negative: bool, width: int, height: int) -> Conditioning:
        """Encode one text with all encoders, as StableDiffusion3Pipeline does."""
        clip, pooled = zip(*(self._clip(*module, text) for module in self._clips), strict=True)
        joined = torch.cat(clip, dim=-1)
        t5 = self._t5_states(text)
        padded = torch.nn.functional.pad(joined, (0, t5.shape[-1] - joined.shape[-1]))
        parts = {
            "hidden": torch.cat([padded, t5]).to(self.dtype),
            "pooled": torch.cat(pooled, dim=-1).to(self.dtype),
        }
        return Conditioning(parts, self._left_out(text))

    def _clip(self, tokenizer: Any, encoder: Any, text: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the penultimate states (tokens, width) and the pooled embedding (width,)."""
        tokens = tokenizer(
            text,
            padding="max_length",
            max_length=self._clip_tokens,
            truncation=True,
            return_tensors="pt",
        )
        output = encoder(tokens.input_ids.to(self.device), output_hidden_states=True)
        return output.hidden_states[-2][0], output[0][0]

    def _t5_states(self, text: str) -> torch.Tensor:
        """Return T5's last states (T5_TOKENS, width), zeros without T5."""
        if self._t5 is None:
            width = self.conditioning["hidden"][-1]
            return torch.zeros((T5_TOKENS, width), dtype=self.dtype, device=self.device)
        tokens = self._t5_tokenizer(
            text,
            padding="max_length",
            max_length=T5_TOKENS,
            truncation=True,
            add_special_tokens=True,
            return_tensors="pt",
        )
        states: torch.Tensor = self._t5(tokens.input_ids.to(self.device))[0][0]
        return states

    def _left_out(self, text: str) -> str:
        """Return the words that no encoder sees; T5 reads further than CLIP."""
        if self._t5 is None:
            return truncated_words(self._clips[0][0], text, self._clip_tokens)
        return truncated_words(self._t5_tokenizer, text, T5_TOKENS)

    @torch.inference_mode()
    def forward(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        """Return the transformer's output; shapes as in `PipelineAdapter.forward`."""
        output = self._transformer(
            latents,
            timestep=timesteps,
            encoder_hidden_states=conditioning["hidden"],
            pooled_projections=conditioning["pooled"],
            return_dict=False,
        )
        result: torch.Tensor = output[0]
        return result

    @torch.inference_mode()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode to uint8 pixels on the CPU; this family's VAE also shifts its latents."""
        config = self._vae.config
        scaled = latents / config.scaling_factor + config.shift_factor
        return to_pixels(self._vae.decode(scaled.to(self.dtype), return_dict=False)[0])
