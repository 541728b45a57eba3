"""What the engine needs of a pipeline family, and how a folder becomes one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from argus.diffusion.folder import pipeline_class
from argus.diffusion.tables import StepTable
from argus.errors import ModelError
from argus.types import VariantInfo

GUIDANCE = "guidance"
"""Name of the conditioning tensor that holds the row's guidance, where a model takes it."""


@dataclass(frozen=True, slots=True)
class Conditioning:
    """An encoded text and whatever else goes with it into a forward.

    Attributes:
        tensors: by the names and shapes of the adapter's `conditioning`, without a batch
            dimension, on its device in its dtype.
        truncated: words that did not fit and were left out; empty when all fitted.
    """

    tensors: Mapping[str, torch.Tensor]
    truncated: str


class PipelineAdapter(Protocol):
    """One resident variant. Text and forward are called by one thread, decode by another."""

    info: VariantInfo
    dtype: torch.dtype
    decode_dtype: torch.dtype
    """Of the VAE, which may need float32 where the rest does not."""
    conditioning: Mapping[str, tuple[int, ...]]
    """Name and shape of every tensor that `encode` gives and `forward` takes.

    One named `GUIDANCE`, of shape (), is each row's guidance and not given by `encode`; it is kept
    in float32 whatever the dtype, since models multiply it by a thousand.
    """

    @property
    def device(self) -> torch.device:
        """Where the modules are; "meta" when their weights are on disk only."""
        ...

    @property
    def weights_bytes(self) -> int:
        """Bytes of all parameters and buffers, wherever they are."""
        ...

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """Return (channels, height, width) of the latents of an image of that many pixels."""
        ...

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
        """Return the table of that sampler under the variant's own schedule.

        Args:
            sampler: one of the variant's.
            steps: of the full schedule.
            width: of the picture, pixels; schedules of flow models may shift with the size.
            height: of the picture, pixels.
            kept: the steps that are run, ascending; None for all.
            eta: DDIM's share of fresh noise, from 0 to 1.
        """
        ...

    def encode(self, text: str, negative: bool, width: int, height: int) -> Conditioning:
        """Encode one text as the diffusers pipeline would.

        Args:
            text: the prompt, or the negative prompt.
            negative: whether it is the negative one; families may treat an empty one apart.
            width: of the picture, pixels.
            height: of the picture, pixels.
        """
        ...

    def forward(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        """Return the model's output for each lane.

        Args:
            latents: (lanes, channels, height, width), scaled for the model.
            timesteps: (lanes,), float.
            conditioning: as in `conditioning`, each with a leading dimension of lanes.
        """
        ...

    def decode(self, latents: torch.Tensor, tiled: bool = False) -> torch.Tensor:
        """Turn latents (n, channels, height, width) into uint8 pixels (n, height, width, 3).

        Args:
            latents: unscaled, as the step tables leave them.
            tiled: whether to go tile by tile, in less memory and not with quite the same picture.

        Raises:
            ArithmeticError: the picture is not finite.
        """
        ...

    def decode_unrounded(self, latents: torch.Tensor) -> torch.Tensor:
        """Return what `decode` rounds to pixels, (n, 3, height, width) of the decoder's type."""
        ...

    def preview(self, latents: torch.Tensor) -> torch.Tensor:
        """Turn latents (channels, h, w) into a thumbnail, uint8 (h, w, 3), without the VAE.

        The first call fits `preview_map`, which runs the VAE some times.

        Raises:
            ArithmeticError: a value is not finite.
        """
        ...

    def preview_map(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (3, channels) and (3,): RGB in [0, 1] as a linear function of latents."""
        ...

    def forward_modules(self) -> Mapping[str, torch.nn.Module]:
        """Return the modules that `forward` runs, by name."""
        ...

    def decode_modules(self) -> Mapping[str, torch.nn.Module]:
        """Return the modules that `decode` runs, by name."""
        ...

    def move(self, device: torch.device) -> None:
        """Move all modules to a device, to the host, or to "meta", which drops their weights.

        For one thread, while no other uses the adapter or captures a CUDA graph. When it fails,
        everything is where it was before.

        Raises:
            ModelError: they come back from "meta" and the folder can no longer be read.
            torch.OutOfMemoryError: no room for them.
        """
        ...


Loader = Callable[[str, Path, torch.device, torch.dtype], PipelineAdapter]


def load_variant(folder: Path, device: torch.device, dtype: torch.dtype) -> PipelineAdapter:
    """Load a diffusers folder; the variant is named after the folder.

    Raises:
        ModelError: the folder is missing, broken or of a family that is not served.
    """
    kind = pipeline_class(folder)
    _quiet_libraries()
    from argus.diffusion.flux import load_flux
    from argus.diffusion.stable_diffusion import load_stable_diffusion
    from argus.diffusion.stable_diffusion_3 import load_stable_diffusion_3
    from argus.diffusion.stable_diffusion_xl import load_stable_diffusion_xl
    from argus.diffusion.weights import first_line

    loaders: dict[str, Loader] = {
        "StableDiffusionPipeline": load_stable_diffusion,
        "LatentConsistencyModelPipeline": load_stable_diffusion,
        "StableDiffusionXLPipeline": load_stable_diffusion_xl,
        "StableDiffusion3Pipeline": load_stable_diffusion_3,
        "FluxPipeline": load_flux,
    }
    try:
        return loaders[kind](folder.resolve().name, folder, device, dtype)
    except ModelError as error:
        if str(folder) in str(error):
            raise
        raise ModelError(f"{folder}: {error}") from error
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError) as error:
        raise ModelError(f"{folder}: cannot be loaded: {first_line(error)}") from error


def _quiet_libraries() -> None:
    """Keep progress bars and remarks of the model libraries out of a daemon's log."""
    import diffusers.utils.logging
    import transformers.utils.logging

    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
