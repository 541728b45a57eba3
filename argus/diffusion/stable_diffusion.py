"""Stable Diffusion 1.x and 2.x, and every other folder of a StableDiffusionPipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import LatentConsistencyModelPipeline, StableDiffusionPipeline

from argus.diffusion.adapter import Conditioning
from argus.diffusion.folder import pipeline_class
from argus.diffusion.text import truncated_words
from argus.diffusion.unet import UNetAdapter
from argus.diffusion.weights import check_tokenizer, load_modules
from argus.errors import ModelError

DEFAULT_GUIDANCE = 7.5
CONSISTENCY_GUIDANCE = 8.5
"""What LatentConsistencyModelPipeline has for a default."""


def load_stable_diffusion(
    name: str, folder: Path, device: torch.device, dtype: torch.dtype
) -> StableDiffusionAdapter:
    """Load the modules of a StableDiffusionPipeline folder, from safetensors only.

    A LatentConsistencyModelPipeline has the same parts and draws the same picture from them.
    """
    kind: Any = StableDiffusionPipeline
    if pipeline_class(folder) == LatentConsistencyModelPipeline.__name__:
        kind = LatentConsistencyModelPipeline
    pipeline = kind.from_pretrained(
        folder,
        local_files_only=True,
        **load_modules(folder, dtype),
        safety_checker=None,
        feature_extractor=None,
        image_encoder=None,
        requires_safety_checker=False,
    )
    return StableDiffusionAdapter(name, folder, pipeline, device, dtype)


class StableDiffusionAdapter(UNetAdapter):
    """One CLIP text encoder, whose last hidden states condition the UNet."""

    def __init__(
        self, name: str, folder: Path, pipeline: Any, device: torch.device, dtype: torch.dtype
    ) -> None:
        if pipeline.unet.config.addition_embed_type == "text_time":
            raise ModelError(f"{folder}: unet is SDXL's, the pipeline is not")
        check_tokenizer(folder, "tokenizer", pipeline.tokenizer, pipeline.text_encoder)
        consistent = isinstance(pipeline, LatentConsistencyModelPipeline)
        guidance = CONSISTENCY_GUIDANCE if consistent else DEFAULT_GUIDANCE
        super().__init__(name, folder, pipeline, device, dtype, guidance)
        self._tokenizer = pipeline.tokenizer
        width = int(self._unet_config.cross_attention_dim)
        self.conditioning = self._conditions(hidden=(int(self._tokenizer.model_max_length), width))

    @torch.inference_mode()
    def encode(self, text: str, negative: bool, width: int, height: int) -> Conditioning:
        """Encode one text padded to the tokenizer's length, as StableDiffusionPipeline does."""
        tokens = self._tokenizer(
            text,
            padding="max_length",
            max_length=self._tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        encoder = self._modules["text_encoder"]
        uses_mask = bool(encoder.config.to_dict().get("use_attention_mask", False))
        mask = tokens.attention_mask.to(self.device) if uses_mask else None
        hidden = encoder(tokens.input_ids.to(self.device), attention_mask=mask)[0]
        cut = truncated_words(self._tokenizer, text)
        return Conditioning({"hidden": hidden[0].to(self.dtype)}, cut)
