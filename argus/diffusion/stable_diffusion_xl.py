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
TIME_IDS = 6
"""Original height and width, the crop's top and left, target height and width."""


def load_stable_diffusion_xl(
    name: str, folder: Path, device: torch.device, dtype: torch.dtype
) -> StableDiffusionXLAdapter:
    """Load the modules of a StableDiffusionXLPipeline folder, from safetensors only."""
    pipeline = StableDiffusionXLPipeline.from_pretrained(  # type: ignore[no-untyped-call]
        folder,
        local_files_only=True,
        **load_modules(folder, dtype),
        feature_extractor=None,
        image_encoder=None,
        add_watermarker=False,
    )
    return StableDiffusionXLAdapter(name, folder, pipeline, device, dtype)


class StableDiffusionXLAdapter(UNetAdapter):
    """Two CLIP text encoders, a pooled embedding, and the picture's size as conditions.

    The size stands for original and target size with no crop, as the pipeline's defaults have it.
    """

    def __init__(
        self, name: str, folder: Path, pipeline: Any, device: torch.device, dtype: torch.dtype
    ) -> None:
        self._tokenizers = (pipeline.tokenizer, pipeline.tokenizer_2)
        check_tokenizer(folder, "tokenizer", pipeline.tokenizer, pipeline.text_encoder)
        check_tokenizer(folder, "tokenizer_2", pipeline.tokenizer_2, pipeline.text_encoder_2)
        pooled = int(pipeline.text_encoder_2.config.projection_dim)
        _check_sizes(folder, pipeline.unet.config, pooled)
        # In float16 this VAE overflows and gives black pictures.
        upcast = dtype is torch.float16 and bool(pipeline.vae.config.force_upcast)
        decode_dtype = torch.float32 if upcast else dtype
        super().__init__(name, folder, pipeline, device, dtype, DEFAULT_GUIDANCE, decode_dtype)
        self._zero_empty_negative = bool(pipeline.config.force_zeros_for_empty_prompt)
        self.conditioning = self._conditions(
            hidden=(
                int(self._tokenizers[0].model_max_length),
                int(self._unet_config.cross_attention_dim),
            ),
            pooled=(pooled,),
            time_ids=(TIME_IDS,),
        )

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
        encoders = (self._modules["text_encoder"], self._modules["text_encoder_2"])
        hidden = []
        pooled = None
        for tokenizer, encoder in zip(self._tokenizers, encoders, strict=True):
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

    def _to_vae(self, latents: torch.Tensor) -> torch.Tensor:
        return latents * self._spread(latents) / self._scaling + self._mean(latents)

    def _from_vae(self, latents: torch.Tensor) -> torch.Tensor:
        return (latents - self._mean(latents)) * self._scaling / self._spread(latents)

    def _mean(self, like: torch.Tensor) -> torch.Tensor:
        return self._statistic("latents_mean", 0.0, like)

    def _spread(self, like: torch.Tensor) -> torch.Tensor:
        return self._statistic("latents_std", 1.0, like)

    def _statistic(self, name: str, neutral: float, like: torch.Tensor) -> torch.Tensor:
        """Return what the VAE's config says of each channel, which only some folders do."""
        both = self._vae_config.get("latents_mean"), self._vae_config.get("latents_std")
        value = neutral if None in both else self._vae_config[name]
        return like.new_tensor(value).view(1, -1, 1, 1)


def _check_sizes(folder: Path, unet: Mapping[str, Any], pooled: int) -> None:
    """Raise ModelError when the UNet wants other numbers beside the text, as the refiner's does."""
    if unet["addition_embed_type"] != "text_time":
        raise ModelError(f"{folder}: unet does not take SDXL's pooled text and sizes")
    wanted = unet["projection_class_embeddings_input_dim"]
    if wanted != pooled + TIME_IDS * unet["addition_time_embed_dim"]:
        raise ModelError(
            f"{folder}: unet takes {wanted} numbers beside the text, which are not the pooled text "
            f"and {TIME_IDS} sizes; a refiner is not served"
        )
