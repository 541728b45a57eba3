"""Stable Diffusion 1.x and 2.x, and every other folder of a StableDiffusionPipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline

from argus.diffusion.adapter import Conditioning
from argus.diffusion.text import truncated_words
from argus.diffusion.unet import UNetAdapter
from argus.diffusion.weights import check_tokenizer, load_modules

DEFAULT_GUIDANCE = 7.5


def load_stable_diffusion(
    name: str, folder: Path, device: torch.device, dtype: torch.dtype
) -> StableDiffusionAdapter:
    """Load the modules of a StableDiffusionPipeline folder, from safetensors only."""
    pipeline = StableDiffusionPipeline.from_pretrained(  # type: ignore[no-untyped-call]
        folder,
        local_files_only=True,
        **load_modules(folder, dtype),
        safety_checker=None,
        requires_safety_checker=False,
    )
    return StableDiffusionAdapter(name, folder, pipeline, device, dtype)


class StableDiffusionAdapter(UNetAdapter):
    """One CLIP text encoder, whose last hidden states condition the UNet."""

    def __init__(
        self, name: str, folder: Path, pipeline: Any, device: torch.device, dtype: torch.dtype
    ) -> None:
        super().__init__(name, folder, pipeline, device, dtype, DEFAULT_GUIDANCE)
        self._tokenizer = pipeline.tokenizer
        check_tokenizer(folder, "tokenizer", self._tokenizer)
        self._text_encoder = pipeline.text_encoder.to(device).eval()
        width = int(self._unet.config.cross_attention_dim)
        self.conditioning = {"hidden": (int(self._tokenizer.model_max_length), width)}

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
        uses_mask = bool(self._text_encoder.config.to_dict().get("use_attention_mask", False))
        mask = tokens.attention_mask.to(self.device) if uses_mask else None
        hidden = self._text_encoder(tokens.input_ids.to(self.device), attention_mask=mask)[0]
        cut = truncated_words(self._tokenizer, text)
        return Conditioning({"hidden": hidden[0].to(self.dtype)}, cut)
