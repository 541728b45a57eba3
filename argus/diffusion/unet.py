"""What the UNet families share: schedule, forward, decoding."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from argus.diffusion.folder import own_defaults
from argus.diffusion.pixels import to_pixels
from argus.diffusion.schedules import build_table, default_sampler, served_samplers
from argus.diffusion.tables import StepTable
from argus.errors import ModelError
from argus.types import VariantInfo

DEFAULT_STEPS = 50


class UNetAdapter:
    """A UNet2DConditionModel, a VAE and a schedule; families add their text encoders.

    Subclasses set `conditioning` and implement `encode` and `_added`.
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
    ) -> None:
        self.device = device
        self.dtype = dtype
        self._unet = pipeline.unet.to(device).eval()
        self._vae = pipeline.vae.to(device).eval()
        self._vae_dtype = dtype
        if self._unet.config.time_cond_proj_dim is not None:
            raise ModelError(f"{folder}: a UNet with guidance embedding is not served")
        self._scheduler_config = dict(pipeline.scheduler.config)
        self._scheduler_config["_class_name"] = type(pipeline.scheduler).__name__
        self._table = lru_cache(maxsize=256)(self._build_table)
        self._vae_scale = int(pipeline.vae_scale_factor)
        self.info = self._describe(name, folder, type(pipeline).__name__, default_guidance)

    def _describe(self, name: str, folder: Path, kind: str, default_guidance: float) -> VariantInfo:
        """Return what the folder allows; an argus.json in it may state its own defaults."""
        own = own_defaults(folder)
        side = int(self._unet.config.sample_size) * self._vae_scale
        levels = len(self._unet.config.block_out_channels)
        return VariantInfo(
            name=name,
            pipeline=kind,
            width=side,
            height=side,
            # Each UNet level halves the latents; sizes that do not divide are not served.
            size_multiple=self._vae_scale * 2 ** (levels - 1),
            max_size=2 * side,
            samplers=served_samplers(self._scheduler_config),
            default_sampler=default_sampler(self._scheduler_config),
            default_steps=int(own.get("default_steps", DEFAULT_STEPS)),
            default_guidance=float(own.get("default_guidance", default_guidance)),
        )

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """Return (channels, height, width) of the latents."""
        channels = int(self._unet.config.in_channels)
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
        output = self._unet(
            latents,
            timesteps,
            encoder_hidden_states=conditioning["hidden"],
            added_cond_kwargs=self._added(conditioning),
            return_dict=False,
        )
        result: torch.Tensor = output[0]
        return result

    @torch.inference_mode()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode to uint8 pixels on the CPU, rounded as diffusers' image processor does."""
        config = self._vae.config
        scaled = latents / config.scaling_factor
        mean, std = config.get("latents_mean"), config.get("latents_std")
        if mean is not None and std is not None:
            spread = torch.tensor(std, device=latents.device).view(1, -1, 1, 1)
            scaled = scaled * spread + torch.tensor(mean, device=latents.device).view(1, -1, 1, 1)
        image = self._vae.decode(scaled.to(self._vae_dtype), return_dict=False)[0]
        return to_pixels(image)
