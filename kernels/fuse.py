"""Puts a fused GroupNorm + SiLU where diffusers' modules run one after the other, and takes it out.

Nothing of diffusers is copied or patched: submodules of the instance are exchanged, parameters and
their names stay, and `FusedNorms.undo` puts the original submodules back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from diffusers.models.autoencoders.vae import Decoder, Encoder
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn

from argus.kernels import reference
from argus.kernels.norm_shape import NormKernel, NormShape


class GroupNormSiLU(nn.GroupNorm):
    """A GroupNorm that activates as well; shares the parameters of the norm it stands for."""

    def __init__(self, norm: nn.GroupNorm, kernel: NormKernel) -> None:
        super().__init__(norm.num_groups, norm.num_channels, norm.eps, device="meta")
        self.weight, self.bias = norm.weight, norm.bias
        self.training = norm.training
        self._kernel = kernel

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the activated norm of (N, C, H, W)."""
        return self._kernel(x, self.num_groups, self.weight, self.bias, self.eps)


class EmbeddingSiLU(nn.Module):
    """The activation of a block whose norms activate already.

    A ResnetBlock2D uses one activation for both: pictures (N, C, H, W), which its norms have dealt
    with, pass; embeddings (N, C) are activated.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Activate an embedding, return a picture as it is."""
        return x if x.ndim == 4 else nn.functional.silu(x)


@dataclass(frozen=True, slots=True)
class FusedNorms:
    """What `fuse_norms` exchanged.

    Attributes:
        count: norms that now activate too.
        replaced: module, attribute and the submodule that stood there.
    """

    count: int
    replaced: tuple[tuple[nn.Module, str, nn.Module], ...]

    def undo(self) -> None:
        """Put every submodule back."""
        for module, name, original in self.replaced:
            setattr(module, name, original)


def fuse_norms(model: nn.Module, kernel: NormKernel) -> FusedNorms:
    """Let `kernel` compute every GroupNorm of `model` that a SiLU follows directly.

    These are both norms of a ResnetBlock2D, except where a time embedding scales and shifts between
    norm and activation, and the last norm of a UNet, VAE encoder or decoder.
    """
    replaced = []
    count = 0
    for module, norms, activation, stand_in in list(_places(model)):
        for name in norms:
            norm: nn.GroupNorm = getattr(module, name)
            replaced.append((module, name, norm))
            setattr(module, name, GroupNormSiLU(norm, kernel))
            count += 1
        replaced.append((module, activation, getattr(module, activation)))
        setattr(module, activation, stand_in)
    return FusedNorms(count, tuple(replaced))


def norm_shapes(model: nn.Module, run: Callable[[], object]) -> tuple[NormShape, ...]:
    """Return the shapes that the fusable norms of `model` see during `run`, without repeats."""
    seen: dict[NormShape, None] = {}

    def note(
        x: torch.Tensor, groups: int, weight: torch.Tensor, bias: torch.Tensor, eps: float, /
    ) -> torch.Tensor:
        seen[NormShape.of(x, groups)] = None
        return reference.group_norm_silu(x, groups, weight, bias, eps)

    fused = fuse_norms(model, note)
    try:
        run()
    finally:
        fused.undo()
    return tuple(seen)


def _places(model: nn.Module) -> Iterator[tuple[nn.Module, tuple[str, ...], str, nn.Module]]:
    """Yield module, its norms, its activation, and what the activation becomes."""
    for module in model.modules():
        if isinstance(module, ResnetBlock2D):
            plain = module.time_embedding_norm != "scale_shift"
            if plain and _fusable(module.norm1, module.nonlinearity) and _affine(module.norm2):
                yield module, ("norm1", "norm2"), "nonlinearity", EmbeddingSiLU()
        elif isinstance(module, (UNet2DConditionModel, Encoder, Decoder)) and _fusable(
            module.conv_norm_out, module.conv_act
        ):
            yield module, ("conv_norm_out",), "conv_act", nn.Identity()


def _fusable(norm: nn.Module | None, activation: nn.Module | None) -> bool:
    return _affine(norm) and isinstance(activation, nn.SiLU)


def _affine(norm: nn.Module | None) -> bool:
    return isinstance(norm, nn.GroupNorm) and not isinstance(norm, GroupNormSiLU) and norm.affine
