"""Stable Diffusion 3 and 3.5, and every other folder of a StableDiffusion3Pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusion3Pipeline

from argus.diffusion.adapter import Conditioning
from argus.diffusion.flow_adapter import FlowAdapter
from argus.diffusion.folder import read_json
from argus.diffusion.text import truncated_words
from argus.diffusion.weights import check_tokenizer, load_modules
from argus.errors import ModelError

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
        local_files_only=True,
        **load_modules(folder, dtype),
        **left_out,
    )
    return StableDiffusion3Adapter(name, folder, pipeline, device, dtype)


class StableDiffusion3Adapter(FlowAdapter):
    """A transformer that sees the latents beside the text: two CLIP encoders, and T5 if there.

    The text is the CLIP encoders' penultimate states side by side, padded with zeros to T5's
    width, followed by T5's states, or by zeros where the folder has no T5.
    """

    def __init__(
        self, name: str, folder: Path, pipeline: Any, device: torch.device, dtype: torch.dtype
    ) -> None:
        config = pipeline.transformer.config
        super().__init__(folder, pipeline, device, dtype, int(config.patch_size))
        check_tokenizer(folder, "tokenizer", pipeline.tokenizer, pipeline.text_encoder)
        check_tokenizer(folder, "tokenizer_2", pipeline.tokenizer_2, pipeline.text_encoder_2)
        if (pipeline.tokenizer_3 is None) != (pipeline.text_encoder_3 is None):
            raise ModelError(f"{folder}: tokenizer_3 and text_encoder_3 go together")
        self._tokenizers = (pipeline.tokenizer, pipeline.tokenizer_2)
        self._clip_tokens = int(pipeline.tokenizer.model_max_length)
        self._t5_tokenizer = pipeline.tokenizer_3
        self.conditioning = {
            "hidden": (self._clip_tokens + T5_TOKENS, int(config.joint_attention_dim)),
            "pooled": (int(config.pooled_projection_dim),),
        }
        # Positions are a learned grid; a picture beyond it has none.
        grid = int(config.pos_embed_max_size) * self.patch
        self.info = self._describe(name, folder, pipeline, DEFAULT_GUIDANCE, grid)

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """Return (channels, height, width) of the latents."""
        channels = int(self._transformer_config.in_channels)
        return channels, height // self._vae_scale, width // self._vae_scale

    @torch.inference_mode()
    def encode(self, text: str, negative: bool, width: int, height: int) -> Conditioning:
        """Encode one text with all encoders, as StableDiffusion3Pipeline does."""
        encoders = (self._modules["text_encoder"], self._modules["text_encoder_2"])
        clips = zip(self._tokenizers, encoders, strict=True)
        clip, pooled = zip(*(self._clip(*module, text) for module in clips), strict=True)
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
        ids = self._tokens(tokenizer, text, self._clip_tokens)
        output = encoder(ids, output_hidden_states=True)
        return output.hidden_states[-2][0], output[0][0]

    def _t5_states(self, text: str) -> torch.Tensor:
        """Return T5's last states (T5_TOKENS, width), zeros without T5."""
        if self._t5_tokenizer is None:
            width = self.conditioning["hidden"][-1]
            return torch.zeros((T5_TOKENS, width), dtype=self.dtype, device=self.device)
        ids = self._tokens(self._t5_tokenizer, text, T5_TOKENS)
        states: torch.Tensor = self._modules["text_encoder_3"](ids)[0][0]
        return states

    def _left_out(self, text: str) -> str:
        """Return the words that no encoder sees; T5 reads further than CLIP."""
        if self._t5_tokenizer is None:
            return truncated_words(self._tokenizers[0], text, self._clip_tokens)
        return truncated_words(self._t5_tokenizer, text, T5_TOKENS)

    @torch.inference_mode()
    def forward(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        """Return the transformer's output; shapes as in `PipelineAdapter.forward`."""
        output = self._modules["transformer"](
            latents,
            timestep=timesteps,
            encoder_hidden_states=conditioning["hidden"],
            pooled_projections=conditioning["pooled"],
            return_dict=False,
        )
        result: torch.Tensor = output[0]
        return result
