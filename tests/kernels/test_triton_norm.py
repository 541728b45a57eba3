"""GroupNorm + SiLU against its definition in float64, the Triton kernels interpreted on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from argus.errors import InvalidArgumentError
from argus.kernels import reference
from argus.kernels.norm_shape import NormShape
from argus.kernels.samples import NormSample

triton_norm = pytest.importorskip("argus.kernels.triton_norm")
CPU = torch.device("cpu")
EPS = 1e-5
# One part; many parts with a rest; groups wider than a tile of channels; more parts than are
# merged at a time; groups of one channel.
SHAPES = [
    ((2, 32, 8, 8), 8),
    ((1, 12, 37, 41), 4),
    ((2, 96, 17, 3), 2),
    ((1, 8, 130, 250), 1),
    ((3, 5, 4, 4), 5),
]
Call = Callable[..., Any]


def by_definition(x: torch.Tensor, sample: NormSample) -> torch.Tensor:
    wide = x.double().reshape(x.shape[0], sample.groups, -1)
    centred = wide - wide.mean(-1, keepdim=True)
    normal = centred / (centred.square().mean(-1, keepdim=True) + EPS).sqrt()
    normal = normal.reshape(x.shape)
    y = normal * sample.weight.double()[:, None, None] + sample.bias.double()[:, None, None]
    return y / (1 + torch.exp(-y))


def fused(interpreted: Call, x: torch.Tensor, sample: NormSample) -> torch.Tensor:
    y: torch.Tensor = interpreted(
        triton_norm.group_norm_silu, x, sample.groups, sample.weight, sample.bias, EPS
    )
    return y


@pytest.mark.parametrize(("shape", "groups"), SHAPES)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_kernels_follow_the_definition_in_both_memory_formats(
    interpreted: Call,
    shape: tuple[int, int, int, int],
    groups: int,
    channels_last: bool,
    dtype: torch.dtype,
) -> None:
    sample = NormSample.random(CPU, NormShape(shape, groups, dtype, channels_last))
    ours = fused(interpreted, sample.x, sample)
    assert ours.dtype == dtype
    assert ours.stride() == sample.x.stride()
    # Rounding to the dtype is half a unit in the last place of values below 8.
    tolerance = 4e-6 if dtype == torch.float32 else 4 * torch.finfo(dtype).eps
    expected = by_definition(sample.x, sample)
    torch.testing.assert_close(ours.double(), expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize(("shape", "groups"), SHAPES)
def test_the_reference_follows_the_definition(
    shape: tuple[int, int, int, int], groups: int
) -> None:
    sample = NormSample.random(CPU, NormShape(shape, groups, torch.float32, False))
    ours = reference.group_norm_silu(sample.x, groups, sample.weight, sample.bias, EPS)
    torch.testing.assert_close(ours.double(), by_definition(sample.x, sample), atol=4e-6, rtol=0)


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_mean_far_from_zero_does_not_cancel_the_variance(
    interpreted: Call, channels_last: bool
) -> None:
    # E[x²] − E[x]² would have nothing left here: x² is 1e8, whose float32 spacing is 8.
    shape = NormShape((1, 8, 64, 65), 2, torch.float32, channels_last)
    sample = NormSample.random(CPU, shape)
    x = sample.x + 1e4
    expected = by_definition(x, sample)
    # x itself is rounded to 1e-3 here, and so is a mean held in float32.
    torch.testing.assert_close(fused(interpreted, x, sample).double(), expected, atol=2e-3, rtol=0)


def test_an_input_in_neither_format_is_copied(interpreted: Call) -> None:
    sample = NormSample.random(CPU, NormShape((2, 8, 6, 10), 4, torch.float32, False))
    x = sample.x.transpose(2, 3)
    expected = by_definition(x, sample)
    torch.testing.assert_close(fused(interpreted, x, sample).double(), expected, atol=4e-6, rtol=0)


@pytest.mark.parametrize(
    ("field", "shape", "groups", "dtype"),
    [
        ("x", (8, 4, 4), 2, torch.float32),
        ("x", (1, 8, 4, 4), 2, torch.float64),
        ("groups", (1, 8, 4, 4), 3, torch.float32),
        ("weight", (1, 6, 4, 4), 2, torch.float32),
    ],
)
def test_a_wrong_argument_is_refused_by_name(
    field: str, shape: tuple[int, ...], groups: int, dtype: torch.dtype
) -> None:
    vector = torch.ones(8)
    with pytest.raises(InvalidArgumentError) as refused:
        triton_norm.group_norm_silu(torch.ones(shape, dtype=dtype), groups, vector, vector, EPS)
    assert refused.value.field == field
