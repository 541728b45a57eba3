"""What makes a variant's forwards fast on this device, chosen by measurement when it is loaded."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from argus.diffusion.adapter import PipelineAdapter
from argus.diffusion.attention import SDPA, back_ends, measure
from argus.engine.options import EngineOptions
from argus.kernels.choose import TORCH, StepKernels, choose_norm, choose_step
from argus.kernels.fuse import norm_shapes
from argus.kernels.norm_shape import NormByShape, NormKernel, NormShape

log = logging.getLogger(__name__)

MEASURED_LANES = 2
"""Lanes that attention is measured with: one guided row."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """Choices for one variant.

    Attributes:
        attention: back end of `argus.diffusion.attention`, measured at the native size and used
            for all.
        kernels: for the two ends of a step; None: plain torch.
        norms: of GroupNorm with SiLU, by shape; None: no own kernel wins anywhere.
    """

    attention: str = SDPA
    kernels: StepKernels | None = None
    norms: NormByShape | None = None


def tune(adapter: PipelineAdapter, options: EngineOptions) -> Tuning:
    """Measure what there is to choose from; on the CPU there is nothing to choose."""
    if adapter.device.type != "cuda":
        return Tuning()
    name, native = adapter.info.name, adapter.latent_shape(adapter.info.width, adapter.info.height)
    attention = SDPA
    if len(back_ends(adapter.device)) > 1:
        found = measure(adapter, min(MEASURED_LANES, options.max_lanes), native)
        attention = found.best
        log.info("%s: attention %s of %s", name, attention, found.seconds)
    kernels = None
    if options.fused_update:
        kernels = choose_step(adapter.device, adapter.dtype, native)
        log.info("%s: ends of a step by %s", name, kernels.measured.name)
    norms = _norms(adapter, options, native) if options.fused_norms else None
    return Tuning(attention, kernels, norms)


def _norms(
    adapter: PipelineAdapter, options: EngineOptions, native: tuple[int, int, int]
) -> NormByShape | None:
    """Choose a kernel for each norm of the denoiser and the VAE, for all lane counts the same.

    A choice by lane count would let a picture depend on who shares its batch.
    """

    def forward() -> None:
        lanes = options.max_lanes
        latents = torch.zeros((lanes, *native), dtype=adapter.dtype, device=adapter.device)
        texts = {
            name: torch.zeros((lanes, *shape), dtype=adapter.dtype, device=adapter.device)
            for name, shape in adapter.conditioning.items()
        }
        adapter.forward(latents, torch.ones(lanes, device=adapter.device), texts)

    def decode() -> None:
        adapter.decode(torch.zeros((1, *native), device=adapter.device))

    won = _winners(adapter, adapter.forward_modules().values(), forward, options.graphs)
    won |= _winners(adapter, adapter.decode_modules().values(), decode, False)
    return NormByShape(won) if won else None


def _winners(
    adapter: PipelineAdapter,
    modules: Iterable[torch.nn.Module],
    run: Callable[[], object],
    graphed: bool,
) -> dict[NormShape, NormKernel]:
    won: dict[NormShape, NormKernel] = {}
    for module in modules:
        shapes = norm_shapes(module, run)
        choices = {s: choose_norm(adapter.device, s, graphed=graphed) for s in shapes}
        better = {s: c.kernel for s, c in choices.items() if c.measured.name != TORCH}
        log.info(
            "%s: %s: a fused GroupNorm wins at %d of %d shapes",
            adapter.info.name,
            type(module).__name__,
            len(better),
            len(shapes),
        )
        won |= better
    return won
