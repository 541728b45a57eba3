"""The shape of a GroupNorm + SiLU, and the kernel that each shape gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
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
    """A norm kernel that takes the winner for each shape, and plain torch for shapes unknown.

    The batch dimension does not count: a sample must be computed alike whatever the others are.
    """

    def __init__(self, winners: Mapping[NormShape, NormKernel]) -> None:
        self._winners = {_of_one(shape): kernel for shape, kernel in winners.items()}

    def __call__(
        self, x: torch.Tensor, groups: int, weight: torch.Tensor, bias: torch.Tensor, eps: float, /
    ) -> torch.Tensor:
        shape = _of_one(NormShape.of(x, groups))
        kernel = self._winners.get(shape, reference.group_norm_silu)
        return kernel(x, groups, weight, bias, eps)


def _of_one(shape: NormShape) -> NormShape:
    return replace(shape, shape=(1, *shape.shape[1:]))
