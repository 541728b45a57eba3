"""What the adapters of all families share: modules, decoding and previews."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from argus.diffusion.pixels import to_pixels
from argus.diffusion.preview import PreviewMap, fit_preview
from argus.diffusion.resident import ResidentModules
from argus.diffusion.tiling import decode_tiled

LARGEST_TILE = 64
"""Latents; 512 pixels for the usual VAE, whose memory is known to fit where the model does."""
SMALLEST_TILE = 16


class LoadedPipeline:
    """A pipeline's modules on a device.

    Subclasses say how their latents differ from the VAE's own (`_to_vae`, `_from_vae`).

    Attributes:
        dtype: of the modules.
        decode_dtype: of the VAE, which may need float32 where the rest does not.
    """

    def __init__(
        self,
        folder: Path,
        pipeline: Any,
        device: torch.device,
        dtype: torch.dtype,
        *,
        denoiser: str,
        decode_dtype: torch.dtype | None = None,
        channels_last: bool = False,
    ) -> None:
        """Take the modules of a diffusers pipeline.

        Args:
            folder: of the pipeline.
            pipeline: loaded on the CPU in `dtype`.
            device: where to.
            dtype: as in the attributes.
            denoiser: name of the module that `forward` runs.
            decode_dtype: as in the attributes; None for `dtype`.
            channels_last: whether the denoiser is made of 2-d convolutions, as VAEs always are.
        """
        self.dtype = dtype
        self.decode_dtype = decode_dtype or dtype
        self._denoiser = denoiser
        self._modules = ResidentModules(
            folder,
            pipeline.components,
            device,
            dtype,
            float32=("vae",) if self.decode_dtype is not dtype else (),
            channels_last=("vae", denoiser) if channels_last else ("vae",),
        )
        self._vae_scale = int(pipeline.vae_scale_factor)
        self._vae_config = self._modules["vae"].config
        self._scaling = float(self._vae_config.scaling_factor)
        self._preview_lock = threading.Lock()
        self._preview: PreviewMap | None = None

    @property
    def device(self) -> torch.device:
        """Where the modules are."""
        return self._modules.device

    @property
    def weights_bytes(self) -> int:
        """Bytes of all parameters and buffers, wherever they are."""
        return self._modules.weights_bytes

    def move(self, device: torch.device) -> None:
        """Move all modules; see `ResidentModules.move`."""
        self._modules.move(device)

    def forward_modules(self) -> Mapping[str, torch.nn.Module]:
        """Return the modules that `forward` runs, by name."""
        return {self._denoiser: self._modules[self._denoiser]}

    def decode_modules(self) -> Mapping[str, torch.nn.Module]:
        """Return the modules that `decode` runs, by name."""
        return {"vae": self._modules["vae"]}

    # -- decoding --------------------------------------------------------------------------

    def _to_vae(self, latents: torch.Tensor) -> torch.Tensor:
        """Return the VAE's own latents for those of the pipeline, as its `__call__` does."""
        return latents / self._scaling

    def _from_vae(self, latents: torch.Tensor) -> torch.Tensor:
        """Return the inverse of `_to_vae`."""
        return latents * self._scaling

    @property
    def tile(self) -> int:
        """Latents that a tile is wide and high: half a native picture, within bounds."""
        side = int(self._modules[self._denoiser].config.get("sample_size") or 2 * LARGEST_TILE)
        return max(SMALLEST_TILE, min(LARGEST_TILE, side // 2))

    @torch.inference_mode()
    def decode(self, latents: torch.Tensor, tiled: bool = False) -> torch.Tensor:
        """Decode to uint8 pixels on the CPU, rounded as diffusers' image processor does.

        Args:
            latents: (n, channels, height, width).
            tiled: whether to go tile by tile, in less memory and not with quite the same picture.
        """
        scaled = self._to_vae(latents).to(self.decode_dtype)
        if tiled:
            return to_pixels(decode_tiled(self._vae_decode, scaled, self.tile, self._vae_scale))
        return to_pixels(self._vae_decode(scaled))

    @torch.inference_mode()
    def decode_unrounded(self, latents: torch.Tensor) -> torch.Tensor:
        """Return what `decode` rounds to pixels, (n, 3, height, width)."""
        return self._vae_decode(self._to_vae(latents).to(self.decode_dtype))

    def _vae_decode(self, latents: torch.Tensor) -> torch.Tensor:
        image: torch.Tensor = self._modules["vae"].decode(latents, return_dict=False)[0]
        return image

    # -- previews --------------------------------------------------------------------------

    def preview_map(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (3, channels) and (3,): RGB in [0, 1] as a linear function of latents.

        Fitted at the first call, which runs the VAE some times.
        """
        fitted = self._fitted()
        return fitted.matrix, fitted.bias

    def preview(self, latents: torch.Tensor) -> torch.Tensor:
        """Turn latents (channels, h, w) into a thumbnail, uint8 (h, w, 3) on the CPU."""
        return self._fitted().picture(latents)

    def _fitted(self) -> PreviewMap:
        with self._preview_lock:
            if self._preview is None:
                vae = self._modules["vae"]
                channels = int(vae.config.latent_channels)
                encode = self._encode if hasattr(vae, "encoder") else None
                self._preview = fit_preview(encode, self._decode, channels, self._vae_scale)
            return self._preview

    @torch.inference_mode()
    def _encode(self, pictures: torch.Tensor) -> torch.Tensor:
        found = self._modules["vae"].encode(pictures.to(self.device, self.decode_dtype))
        # AutoencoderKL gives a distribution, whose middle is meant; AutoencoderTiny the latents.
        own = found.latent_dist.mode() if "latent_dist" in found else found.latents
        return self._from_vae(own.float())

    @torch.inference_mode()
    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        return self._vae_decode(self._to_vae(latents.to(self.device)).to(self.decode_dtype))
