"""What the UNet families share: schedule, forward, and what a UNet must be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from argus.diffusion.adapter import GUIDANCE
from argus.diffusion.folder import own_defaults
from argus.diffusion.loaded import LoadedPipeline
from argus.diffusion.schedules import build_table, default_sampler, served_samplers
from argus.diffusion.tables import StepTable
from argus.errors import ModelError
from argus.types import VariantInfo

DEFAULT_STEPS = 50
LONGEST_PERIOD = 10000.0


class UNetAdapter(LoadedPipeline):
    """A UNet2DConditionModel, a VAE and a schedule; families add their text encoders.

    Subclasses set `conditioning` through `_conditions` and implement `encode` and `_added`.
    """

    conditioning: Mapping[str, tuple[int, ...]]

    def __init__(
        self,
        name: str,
        folder: Path,
        pipeline: Any,
        device: torch.device,
        dtype: torch.dtype,
        default_guidance: float,
        decode_dtype: torch.dtype | None = None,
    ) -> None:
        check_unet(folder, pipeline.unet.config, pipeline.vae.config)
        super().__init__(
            folder,
            pipeline,
            device,
            dtype,
            denoiser="unet",
            decode_dtype=decode_dtype,
            channels_last=True,
        )
        self._unet_config = pipeline.unet.config
        self._scheduler_config = dict(pipeline.scheduler.config)
        self._scheduler_config["_class_name"] = type(pipeline.scheduler).__name__
        self._table = lru_cache(maxsize=256)(self._build_table)
        self.info = self._describe(name, folder, type(pipeline).__name__, default_guidance)

    def _describe(self, name: str, folder: Path, kind: str, default_guidance: float) -> VariantInfo:
        """Return what the folder allows; an argus.json in it may state its own defaults."""
        own = own_defaults(folder)
        side = int(self._unet_config.sample_size) * self._vae_scale
        levels = len(self._unet_config.block_out_channels)
        samplers = served_samplers(self._scheduler_config)
        embedded = self._unet_config.time_cond_proj_dim is not None
        accepts: tuple[str, ...] = ("eta",) if "ddim" in samplers else ()
        if not embedded:
            accepts += ("guidance_rescale",)
        return VariantInfo(
            name=name,
            pipeline=kind,
            width=side,
            height=side,
            # Each UNet level halves the latents; sizes that do not divide are not served.
            size_multiple=self._vae_scale * 2 ** (levels - 1),
            max_size=2 * side,
            samplers=samplers,
            default_sampler=default_sampler(self._scheduler_config),
            default_steps=int(own.get("default_steps", DEFAULT_STEPS)),
            default_guidance=float(own.get("default_guidance", default_guidance)),
            guidance_embedded=embedded,
            accepts=accepts,
        )

    def _conditions(self, **shapes: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Return the shapes of a family's conditions, and of guidance if the UNet takes it."""
        return {**shapes, GUIDANCE: ()} if self.info.guidance_embedded else shapes

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """Return (channels, height, width) of the latents."""
        channels = int(self._unet_config.in_channels)
        return channels, height // self._vae_scale, width // self._vae_scale

    def step_table(
        self,
        sampler: str,
        steps: int,
        width: int,
        height: int,
        *,
        kept: tuple[int, ...] | None = None,
        eta: float = 0.0,
    ) -> StepTable:
        """Return the table under the folder's scheduler config; tables are kept."""
        return self._table(sampler, steps, kept, eta)

    def _build_table(
        self, sampler: str, steps: int, kept: tuple[int, ...] | None, eta: float
    ) -> StepTable:
        return build_table(sampler, self._scheduler_config, steps, kept=kept, eta=eta)

    def _added(self, conditioning: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor] | None:
        """Return the UNet's added_cond_kwargs; None where the family has none."""
        return None

    @torch.inference_mode()
    def forward(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        """Return the UNet's output; shapes as in `PipelineAdapter.forward`."""
        guidance = None
        if GUIDANCE in conditioning:
            width = int(self._unet_config.time_cond_proj_dim)
            guidance = embed_guidance(conditioning[GUIDANCE], width).to(latents.dtype)
        output = self._modules["unet"](
            latents,
            timesteps,
            encoder_hidden_states=conditioning["hidden"],
            timestep_cond=guidance,
            added_cond_kwargs=self._added(conditioning),
            return_dict=False,
        )
        result: torch.Tensor = output[0]
        return result


def embed_guidance(guidance: torch.Tensor, width: int) -> torch.Tensor:
    """Return sines and cosines (lanes, width) of a guidance (lanes,), in float32.

    As `get_guidance_scale_embedding` of diffusers' pipelines, after Kingma et al. 2021 (arXiv
    2107.00630); a UNet that was distilled to take it was told of guidance - 1 in thousandths.
    """
    half = width // 2
    turns = torch.arange(half, dtype=torch.float32, device=guidance.device)
    turns = torch.exp(turns * -(math.log(LONGEST_PERIOD) / (half - 1)))
    angles = ((guidance.float() - 1.0) * 1000.0)[:, None] * turns[None, :]
    waves = torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)
    return torch.nn.functional.pad(waves, (0, width % 2))


def check_unet(folder: Path, unet: Mapping[str, Any], vae: Mapping[str, Any]) -> None:
    """Refuse a UNet that asks for more than noisy latents, a time, a text and SDXL's sizes.

    Args:
        folder: named in errors.
        unet: config of the UNet.
        vae: config of the VAE.

    Raises:
        ModelError: says what it asks for.
    """
    channels, latents = unet["in_channels"], vae["latent_channels"]
    if channels != latents:
        raise ModelError(
            f"{folder}: unet takes {channels} channels and the VAE's latents have {latents}: one "
            "for inpainting or for other pictures as input is not served"
        )
    if unet["out_channels"] != latents:
        raise ModelError(f"{folder}: unet gives {unet['out_channels']} channels, not {latents}")
    if unet.get("encoder_hid_dim_type") is not None:
        raise ModelError(
            f"{folder}: unet has encoder_hid_dim_type {unet['encoder_hid_dim_type']!r}; an image "
            "prompt adapter is not served"
        )
    if unet.get("class_embed_type") is not None or unet.get("num_class_embeds") is not None:
        raise ModelError(f"{folder}: unet wants class labels; not served")
    if unet.get("addition_embed_type") not in {None, "text", "text_time"}:
        raise ModelError(
            f"{folder}: unet has addition_embed_type {unet['addition_embed_type']!r}; not served"
        )
    if not isinstance(unet["sample_size"], int):
        raise ModelError(f"{folder}: unet/config.json must state sample_size as one number")
