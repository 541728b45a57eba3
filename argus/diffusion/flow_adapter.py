"""What the flow matching families share: schedule, T5, decoding."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from argus.diffusion.flow import (
    FLOW_SAMPLERS,
    build_flow_table,
    default_flow_sampler,
    make_flow_scheduler,
)
from argus.diffusion.folder import own_defaults
from argus.diffusion.loaded import LoadedPipeline
from argus.diffusion.tables import StepTable
from argus.errors import ModelError
from argus.types import VariantInfo

DEFAULT_STEPS = 28


class FlowAdapter(LoadedPipeline):
    """A transformer, a VAE with shifted latents and a flow matching schedule.

    Subclasses set `conditioning` and `info`, and implement `encode`, `forward` and `latent_shape`.

    Attributes:
        patch: pixels that one token of the transformer is wide and high.
    """

    conditioning: Mapping[str, tuple[int, ...]]
    info: VariantInfo
    packed = 1
    """Latents that the transformer sees as channels of one token's input."""
    even_sigmas = False
    """Whether the pipeline names its own sigmas; see `build_flow_table`."""

    def __init__(
        self, folder: Path, pipeline: Any, device: torch.device, dtype: torch.dtype, patch: int
    ) -> None:
        if pipeline.vae.config.shift_factor is None:
            raise ModelError(f"{folder}: the VAE's config lacks shift_factor")
        channels = int(pipeline.vae.config.latent_channels)
        taken = int(pipeline.transformer.config.in_channels) // self.packed
        if taken != channels:
            raise ModelError(
                f"{folder}: transformer takes {taken} channels and the VAE's latents have "
                f"{channels}: one with other pictures as input is not served"
            )
        super().__init__(folder, pipeline, device, dtype, denoiser="transformer")
        self._shift = float(pipeline.vae.config.shift_factor)
        self._transformer_config = pipeline.transformer.config
        self.patch = patch * self._vae_scale
        self._scheduler_config = dict(pipeline.scheduler.config)
        self._scheduler_config["_class_name"] = type(pipeline.scheduler).__name__
        make_flow_scheduler(self._scheduler_config)
        self._table = lru_cache(maxsize=256)(self._build_table)

    def _describe(
        self,
        name: str,
        folder: Path,
        pipeline: Any,
        default_guidance: float,
        max_size: int,
        *,
        guidance_embedded: bool = False,
        accepts: tuple[str, ...] = (),
    ) -> VariantInfo:
        """Return what the folder allows; an argus.json in it may state its own defaults."""
        own = own_defaults(folder)
        side = int(pipeline.default_sample_size) * self._vae_scale
        return VariantInfo(
            name=name,
            pipeline=type(pipeline).__name__,
            width=side,
            height=side,
            size_multiple=self.patch,
            max_size=min(2 * side, max_size),
            samplers=FLOW_SAMPLERS,
            default_sampler=default_flow_sampler(self._scheduler_config),
            default_steps=int(own.get("default_steps", DEFAULT_STEPS)),
            default_guidance=float(own.get("default_guidance", default_guidance)),
            guidance_embedded=guidance_embedded,
            accepts=accepts,
        )

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
        tokens = (height // self.patch) * (width // self.patch)
        return self._table(sampler, steps, tokens, kept, eta)

    def _build_table(
        self,
        sampler: str,
        steps: int,
        image_tokens: int,
        kept: tuple[int, ...] | None,
        eta: float,
    ) -> StepTable:
        return build_flow_table(
            sampler,
            self._scheduler_config,
            steps,
            image_tokens,
            even_sigmas=self.even_sigmas,
            kept=kept,
            eta=eta,
        )

    def _tokens(self, tokenizer: Any, text: str, length: int) -> torch.Tensor:
        """Return the ids (1, length) of a text, cut or padded to that length."""
        tokens = tokenizer(
            text, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        ids: torch.Tensor = tokens.input_ids
        return ids.to(self.device)

    def _to_vae(self, latents: torch.Tensor) -> torch.Tensor:
        return latents / self._scaling + self._shift

    def _from_vae(self, latents: torch.Tensor) -> torch.Tensor:
        return (latents - self._shift) * self._scaling
