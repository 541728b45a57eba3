"""Stable Diffusion XL base, and every other folder of a StableDiffusionXLPipeline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline

from argus.diffusion.adapter import Conditioning
from argus.diffusion.text import truncated_words
from argus.diffusion.unet import UNetAdapter
from argus.diffusion.weights import check_tokenizer, load_modules
from argus.errors import ModelError

DEFAULT_GUIDANCE = 5.0


def load_stable_diffusion_xl(
    name: str, folder: Path, device: torch.device, dtype: torch.dtype
) -> StableDiffusionXLAdapter:
    """Load the modules of a StableDiffusionXLPipeline folder, from safetensors only."""
    pipeline = StableDiffusionXLPipeline.from_pretrained(  # type: ignore[no-untyped-call]
        folder, local_files_only=True, **load_modules(folder, dtype), add_watermarker=False
    )
    return StableDiffusionXLAdapter(name, folder, pipeline, device, dtype)


class StableDiffusionXLAdapter(UNetAdapter):
    """Two CLIP text encoders, a pooled embedding, and the picture's size as conditions.

    The size stands for original and target size with no crop, as the pipeline's defaults have it.
    """

    def __init__(
        self, name: str, folder: Path, pipeline: Any, device: torch.device, dtype: torch.dtype
    ) -> None:
        if pipeline.text_encoder is None or pipeline.text_encoder_2 is None:
            raise ModelError(f"{folder}: both text encoders are needed; a refiner is not served")
        super().__init__(name, folder, pipeline, device, dtype, DEFAULT_GUIDANCE)
        self._tokenizers = (pipeline.tokenizer, pipeline.tokenizer_2)
        check_tokenizer(folder, "tokenizer", pipeline.tokenizer)
        check_tokenizer(folder, "tokenizer_2", pipeline.tokenizer_2)
        self._encoders = tuple(
            encoder.to(device).eval()
            for encoder in (pipeline.text_encoder, pipeline.text_encoder_2)
        )
        self._zero_empty_negative = bool(pipeline.config.force_zeros_for_empty_prompt)
        if dtype is torch.float16 and self._vae.config.force_upcast:
            # In float16 this VAE overflows and gives black pictures.
            self._vae_dtype = torch.float32
            self._vae.to(torch.float32)
        self.conditioning = {
            "hidden": (
                int(self._tokenizers[0].model_max_length),
                int(self._unet.config.cross_attention_dim),
            ),
            "pooled": (int(self._encoders[1].config.projection_dim),),
            "time_ids": (6,),
        }

    @torch.inference_mode()
    def encode(self, text: str, negative: bool, width: int, height: int) -> Conditioning:
        """Encode one text with both encoders, as StableDiffusionXLPipeline does.

        An empty negative prompt becomes zeros where the folder says so.
        """
        size = (height, width, 0, 0, height, width)
        time_ids = torch.tensor(size, dtype=self.dtype, device=self.device)
        if negative and not text and self._zero_empty_negative:
            tensors = {
                part: torch.zeros(self.conditioning[part], dtype=self.dtype, device=self.device)
                for part in ("hidden", "pooled")
            }
            return Conditioning({**tensors, "time_ids": time_ids}, "")
        hidden = []
        pooled = None
        for tokenizer, encoder in zip(self._tokenizers, self._encoders, strict=True):
            tokens = tokenizer(
                text,
                padding="max_length",
                max_length=tokenizer.model_max_length,
                truncation=True,
                return_tensors="pt",
            )
            output = encoder(tokens.input_ids.to(self.device), output_hidden_states=True)
            hidden.append(output.hidden_states[-2][0])
            if pooled is None and output[0].ndim == 2:
                pooled = output[0][0]
        if pooled is None:
            raise ModelError(f"{self.info.name}: no text encoder gives a pooled embedding")
        joined = torch.cat(hidden, dim=-1).to(self.dtype)
        parts = {"hidden": joined, "pooled": pooled.to(self.dtype), "time_ids": time_ids}
        return Conditioning(parts, truncated_words(self._tokenizers[0], text))

    def _added(self, conditioning: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor] | None:
        return {"text_embeds": conditioning["pooled"], "time_ids": conditioning["time_ids"]}
