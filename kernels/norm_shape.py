"""The shape of a GroupNorm + SiLU, and the kernel that each shape gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

from argus.kernels import reference
from argus.kernels.checks import is_channels_last


class NormKernel(Protocol):
    """What computes SiLU of a group norm; `argus.kernels.reference.group_norm_silu` is one."""

    def __call__(
        self, x: torch.Tensor, groups: int, weight: torch.Tensor, bias: torch.Tensor, eps: float, /
    ) -> torch.Tensor: ...


@dataclass(frozen=True, slots=True)
class NormShape:
    """All that the speed of a GroupNorm + SiLU depends on."""

    shape: tuple[int, ...]
    groups: int
    dtype: torch.dtype
    channels_last: bool

    @classmethod
    def of(cls, x: torch.Tensor, groups: int) -> NormShape:
        """Describe the norm of `x`."""
        return cls(tuple(x.shape), groups, x.dtype, is_channels_last(x))


class NormByShape:
    """A norm kernel that takes the winner for each shape, and plain torch for shapes unknown."""

    def __init__(self, winners: Mapping[NormShape, NormKernel]) -> None:
        self._winners = dict(winners)

    def __call__(
        self, x: torch.Tensor, groups: int, weight: torch.Tensor, bias: torch.Tensor, eps: float, /
    ) -> torch.Tensor:
        kernel = self._winners.get(NormShape.of(x, groups), reference.group_norm_silu)
        return kernel(x, groups, weight, bias, eps)
