"""Which implementation a node uses: the fastest that is right here, by measurement at warm-up.

Plain torch is always there and stays unless another beats it. An implementation that cannot be
imported, compiled or loaded, or whose results differ, is left out with its reason, and reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Protocol

import torch

from argus.kernels import reference
from argus.kernels.norm_shape import NormKernel, NormShape
from argus.kernels.samples import NormSample, StepSample
from argus.kernels.timing import seconds_per_call

TORCH = "torch"
STEP_MODULES = {"triton": "argus.kernels.triton_step", "cuda": "argus.kernels.cuda_step"}
NORM_MODULES = {"triton": "argus.kernels.triton_norm"}


class Gather(Protocol):
    """`argus.kernels.reference.gather_inputs`, or what does the same."""

    def __call__(
        self,
        states: torch.Tensor,
        lane_slots: torch.Tensor,
        weights: torch.Tensor,
        dtype: torch.dtype,
    ) -> torch.Tensor: ...


class Update(Protocol):
    """`argus.kernels.reference.update_states`, or what does the same."""

    def __call__(
        self,
        states: torch.Tensor,
        slots: torch.Tensor,
        output: torch.Tensor,
        negative: torch.Tensor,
        positive: torch.Tensor,
        guidance: torch.Tensor,
        coefficients: torch.Tensor,
        noise: torch.Tensor | None = None,
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class Measured:
    """How a choice came about.

    Attributes:
        name: the implementation chosen: torch, triton or cuda.
        seconds: measured for each that works; empty on CPU, where there is no choice.
        left_out: why the others were not measured, by name.
    """

    name: str
    seconds: Mapping[str, float]
    left_out: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class StepKernels:
    """The gather and update that a node uses for one shape."""

    gather_inputs: Gather
    update_states: Update
    measured: Measured


@dataclass(frozen=True, slots=True)
class NormChoice:
    """The GroupNorm + SiLU that a node uses for one shape."""

    kernel: NormKernel
    measured: Measured


def choose_step(
    device: torch.device,
    dtype: torch.dtype,
    latent: tuple[int, int, int],
    states: int = 2,
    rows: int = 8,
    graphed: bool = False,
) -> StepKernels:
    """Measure a gather and an update together and return the fastest implementation.

    Args:
        device: where the engine steps.
        dtype: of the model.
        latent: (C, H, W) of a sample.
        states: S, the memories of the sampler.
        rows: guided rows in the measured step.
        graphed: measure inside a CUDA graph, as the engine runs it when it captures steps.
    """
    if device.type != "cuda":
        measured = Measured(TORCH, {}, _needs_cuda(STEP_MODULES, device))
        return StepKernels(reference.gather_inputs, reference.update_states, measured)
    sample = StepSample.random(device, dtype, latent, states, rows)
    found, left_out = working(STEP_MODULES, sample)
    measured = fastest(sample, found, left_out, device, graphed)
    chosen = found[measured.name]
    return StepKernels(chosen.gather_inputs, chosen.update_states, measured)


def choose_norm(device: torch.device, shape: NormShape, graphed: bool = False) -> NormChoice:
    """Measure GroupNorm + SiLU at a shape and return the fastest implementation."""
    if device.type != "cuda":
        measured = Measured(TORCH, {}, _needs_cuda(NORM_MODULES, device))
        return NormChoice(reference.group_norm_silu, measured)
    sample = NormSample.random(device, shape)
    found, left_out = working(NORM_MODULES, sample)
    measured = fastest(sample, found, left_out, device, graphed)
    return NormChoice(found[measured.name].group_norm_silu, measured)


def working(
    names: Mapping[str, str], sample: StepSample | NormSample
) -> tuple[dict[str, ModuleType], dict[str, str]]:
    """Return the modules, torch first, that give the reference's result for `sample`.

    Args:
        names: module by implementation.
        sample: on the device in question.

    Returns:
        Modules by implementation, and reasons for those left out.
    """
    found, left_out = {TORCH: reference}, {}
    for name, path in names.items():
        # Compilers and drivers raise whatever they like; any of it means: not on this node.
        try:
            module = import_module(path)
            sample.check(module)
        except Exception as error:
            left_out[name] = f"{type(error).__name__}: {error}"
        else:
            found[name] = module
    return found, left_out


def _needs_cuda(names: Mapping[str, str], device: torch.device) -> dict[str, str]:
    return dict.fromkeys(names, f"needs cuda, this is {device.type}")


def fastest(
    sample: StepSample | NormSample,
    found: Mapping[str, ModuleType],
    left_out: Mapping[str, str],
    device: torch.device,
    graphed: bool,
) -> Measured:
    """Time implementations that work, torch first, and name the fastest; torch stays on a tie."""
    seconds = {
        name: seconds_per_call(partial(sample.run, module), device, graphed)
        for name, module in found.items()
    }
    # min keeps the first of equals.
    return Measured(min(seconds, key=seconds.__getitem__), seconds, left_out)
