"""FLUX.1, dev and schnell, and every other folder of a FluxPipeline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxPipeline

from argus.diffusion.adapter import GUIDANCE, Conditioning
from argus.diffusion.flow_adapter import FlowAdapter
from argus.diffusion.text import truncated_words
from argus.diffusion.weights import check_tokenizer, load_modules

DEFAULT_GUIDANCE = 3.5
T5_TOKENS = 512
"""Length that the pipeline pads the text to."""
PATCH = 2
"""Latents that one token is wide and high."""


def load_flux(name: str, folder: Path, device: torch.device, dtype: torch.dtype) -> FluxAdapter:
    """Load the modules of a FluxPipeline folder, from safetensors only."""
    pipeline = FluxPipeline.from_pretrained(  # type: ignore[no-untyped-call]
        folder,
        local_files_only=True,
        **load_modules(folder, dtype),
        image_encoder=None,
        feature_extractor=None,
    )
    return FluxAdapter(name, folder, pipeline, device, dtype)


class FluxAdapter(FlowAdapter):
    """A transformer over text and 2x2 patches of latents, with guidance distilled into it.

    T5's states are the text, CLIP's pooled embedding goes with the time step. Guidance is one more
    input where the weights know it (dev) and without effect where they do not (schnell). A negative
    prompt takes effect through true guidance, FluxPipeline's true_cfg_scale; both lanes of such a
    row are told the same guidance.
    """

    packed = PATCH**2
    even_sigmas = True

    def __init__(
        self, name: str, folder: Path, pipeline: Any, device: torch.device, dtype: torch.dtype
    ) -> None:
        super().__init__(folder, pipeline, device, dtype, PATCH)
        check_tokenizer(folder, "tokenizer", pipeline.tokenizer, pipeline.text_encoder)
        self._clip_tokenizer = pipeline.tokenizer
        self._t5_tokenizer = pipeline.tokenizer_2
        config = self._transformer_config
        self.conditioning = {
            "hidden": (T5_TOKENS, int(config.joint_attention_dim)),
            "pooled": (int(config.pooled_projection_dim),),
        }
        if config.guidance_embeds:
            self.conditioning[GUIDANCE] = ()
        side = 2 * int(pipeline.default_sample_size) * self._vae_scale
        self.info = self._describe(
            name,
            folder,
            pipeline,
            DEFAULT_GUIDANCE,
            side,
            guidance_embedded=True,
            accepts=("true_guidance",),
        )

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """Return (channels, height, width) of the latents, which are packed in `forward` only."""
        channels = int(self._transformer_config.in_channels) // PATCH**2
        return channels, height // self._vae_scale, width // self._vae_scale

    @torch.inference_mode()
    def encode(self, text: str, negative: bool, width: int, height: int) -> Conditioning:
        """Encode one text with both encoders, as FluxPipeline does."""
        length = int(self._clip_tokenizer.model_max_length)
        clip, t5 = self._modules["text_encoder"], self._modules["text_encoder_2"]
        pooled = clip(self._tokens(self._clip_tokenizer, text, length)).pooler_output[0]
        hidden = t5(self._tokens(self._t5_tokenizer, text, T5_TOKENS))[0][0]
        parts = {"hidden": hidden.to(self.dtype), "pooled": pooled.to(self.dtype)}
        return Conditioning(parts, truncated_words(self._t5_tokenizer, text, T5_TOKENS))

    @torch.inference_mode()
    def forward(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        """Return the transformer's output; shapes as in `PipelineAdapter.forward`."""
        height, width = latents.shape[-2:]
        output = self._modules["transformer"](
            pack(latents),
            # Divided in the model's dtype, as the pipeline does; the transformer multiplies again.
            timestep=timesteps.to(latents.dtype) / 1000,
            guidance=conditioning.get(GUIDANCE),
            pooled_projections=conditioning["pooled"],
            encoder_hidden_states=conditioning["hidden"],
            txt_ids=torch.zeros((T5_TOKENS, 3), dtype=latents.dtype, device=latents.device),
            img_ids=_positions(height // PATCH, width // PATCH, latents),
            return_dict=False,
        )
        return unpack(output[0], height, width)


def pack(latents: torch.Tensor) -> torch.Tensor:
    """Turn latents (n, c, h, w) into tokens (n, h/2 * w/2, 4c), each a patch of 2x2."""
    n, channels, height, width = latents.shape
    patches = latents.view(n, channels, height // PATCH, PATCH, width // PATCH, PATCH)
    tokens = patches.permute(0, 2, 4, 1, 3, 5)
    return tokens.reshape(n, (height // PATCH) * (width // PATCH), channels * PATCH**2)


def unpack(tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Turn tokens (n, h/2 * w/2, 4c) back into latents (n, c, h, w)."""
    n, _, parts = tokens.shape
    channels = parts // PATCH**2
    patches = tokens.view(n, height // PATCH, width // PATCH, channels, PATCH, PATCH)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(n, channels, height, width)


def _positions(rows: int, columns: int, like: torch.Tensor) -> torch.Tensor:
    """Return (rows * columns, 3): 0, row and column of every token."""
    ids = torch.zeros((rows, columns, 3), dtype=like.dtype, device=like.device)
    ids[..., 1] = torch.arange(rows, device=like.device)[:, None]
    ids[..., 2] = torch.arange(columns, device=like.device)[None, :]
    return ids.view(rows * columns, 3)
