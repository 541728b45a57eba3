"""Random inputs of each kernel: what is measured, and compared with the reference, on a device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import torch

from argus.errors import InternalError
from argus.kernels import reference
from argus.kernels.norm_shape import NormShape

STEP_TOLERANCE = 1e-5
"""Of states near 1 in float32; the order of rounding is the same, so 0 is what is expected."""
SPARE_SLOTS = 4
"""Slots that no row of a sample sits in."""


@dataclass(frozen=True, slots=True)
class StepSample:
    """A pool and one step of guided rows in it; shapes as in `argus.kernels.reference`."""

    states: torch.Tensor
    slots: torch.Tensor
    lane_slots: torch.Tensor
    weights: torch.Tensor
    output: torch.Tensor
    negative: torch.Tensor
    positive: torch.Tensor
    guidance: torch.Tensor
    coefficients: torch.Tensor
    noise: torch.Tensor | None

    @classmethod
    def random(
        cls,
        device: torch.device,
        dtype: torch.dtype,
        latent: tuple[int, int, int],
        states: int,
        rows: int,
        noisy: bool = False,
    ) -> StepSample:
        """Draw a step of `rows` guided rows in scattered slots.

        The lines are averages, so that states stay near 1 however often the step is repeated.
        """
        draw = torch.Generator("cpu").manual_seed(0)
        slots = torch.randperm(rows + SPARE_SLOTS, generator=draw)[:rows]
        lanes = torch.arange(2 * rows)
        lines = torch.rand((rows, states, states + 2), generator=draw)
        pool = torch.randn((states, rows + SPARE_SLOTS + 1, *latent), generator=draw)
        output = torch.randn((2 * rows, *latent), generator=draw)
        noise = torch.randn((rows, *latent), generator=draw).to(device) if noisy else None
        return cls(
            pool.to(device),
            slots.to(device),
            slots.repeat_interleave(2).to(device),
            torch.rand((2 * rows, states), generator=draw).to(device),
            output.to(device, dtype),
            lanes[0::2].contiguous().to(device),
            lanes[1::2].contiguous().to(device),
            torch.full((rows,), 1.5, device=device),
            (lines / lines.sum(-1, keepdim=True)).to(device),
            noise,
        )

    def gather(self, module: ModuleType) -> torch.Tensor:
        """Gather the lanes' inputs with an implementation."""
        inputs: torch.Tensor = module.gather_inputs(
            self.states, self.lane_slots, self.weights, self.output.dtype
        )
        return inputs

    def update(self, module: ModuleType, states: torch.Tensor | None = None) -> None:
        """Update the sample's states, or others of the same shape, with an implementation."""
        module.update_states(
            self.states if states is None else states,
            self.slots,
            self.output,
            self.negative,
            self.positive,
            self.guidance,
            self.coefficients,
            self.noise,
        )

    def run(self, module: ModuleType) -> None:
        """Gather and update once."""
        self.gather(module)
        self.update(module)

    def check(self, module: ModuleType) -> None:
        """Compare an implementation with the reference; the sample's states are not changed.

        Raises:
            InternalError: the results differ.
        """
        rounding = torch.finfo(self.output.dtype).eps
        _compare("gather", self.gather(module), self.gather(reference), rounding)
        ours, expected = self.states.clone(), self.states.clone()
        self.update(module, ours)
        self.update(reference, expected)
        _compare("update", ours, expected, 0.0)


@dataclass(frozen=True, slots=True)
class NormSample:
    """A tensor and the parameters of its GroupNorm + SiLU."""

    x: torch.Tensor
    groups: int
    weight: torch.Tensor
    bias: torch.Tensor

    @classmethod
    def random(cls, device: torch.device, shape: NormShape) -> NormSample:
        """Draw a sample whose mean is not zero, of the given shape and memory format."""
        draw = torch.Generator(device).manual_seed(0)
        x = torch.randn(shape.shape, generator=draw, device=device).add_(0.5).to(shape.dtype)
        if shape.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        channels = shape.shape[1]
        weight = torch.rand(channels, generator=draw, device=device).to(shape.dtype)
        bias = torch.rand(channels, generator=draw, device=device).to(shape.dtype)
        return cls(x, shape.groups, weight, bias)

    def run(self, module: ModuleType) -> torch.Tensor:
        """Compute it with an implementation."""
        kernel: Callable[..., torch.Tensor] = module.group_norm_silu
        return kernel(self.x, self.groups, self.weight, self.bias, 1e-5)

    def check(self, module: ModuleType) -> None:
        """Compare an implementation with the reference, which rounds once more in between.

        Raises:
            InternalError: the results differ.
        """
        rounding = 4 * torch.finfo(self.x.dtype).eps
        _compare("group_norm_silu", self.run(module), self.run(reference), rounding)


def _compare(what: str, ours: torch.Tensor, expected: torch.Tensor, rounding: float) -> None:
    """Raise unless |ours − expected| ≤ tolerance + rounding · max(1, |expected|)."""
    expected = expected.float()
    allowed = STEP_TOLERANCE + rounding * expected.abs().clamp(min=1.0)
    excess = float(((ours.float() - expected).abs() - allowed).max())
    # Written so that NaN does not pass.
    if not excess <= 0:
        raise InternalError(f"{what}: differs from the reference by {excess:.2g} more than allowed")
