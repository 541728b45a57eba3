"""Own kernels in a variant's modules, where they were measured to win."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import torch

from argus.kernels.choose import TORCH, choose_norm
from argus.kernels.fuse import FusedNorms, fuse_norms, norm_shapes
from argus.kernels.norm_shape import NormByShape

log = logging.getLogger(__name__)


def fuse_where_it_wins(
    name: str, modules: Iterable[torch.nn.Module], device: torch.device, run: Callable[[], object]
) -> list[FusedNorms]:
    """Fuse GroupNorm and SiLU in `modules` for the shapes where a kernel beats torch.

    Args:
        name: of the variant, for the log.
        modules: that `run` runs.
        device: where they are.
        run: runs them at every shape that is to be measured.

    Returns:
        What was exchanged, to be undone before the weights are moved; nothing where torch wins.
    """
    exchanged = []
    for module in modules:
        choices = {shape: choose_norm(device, shape) for shape in norm_shapes(module, run)}
        won = {s: c.kernel for s, c in choices.items() if c.measured.name != TORCH}
        log.info(
            "%s: %s: a fused GroupNorm wins at %d of %d shapes",
            name,
            type(module).__name__,
            len(won),
            len(choices),
        )
        if won:
            exchanged.append(fuse_norms(module, NormByShape(won)))
    return exchanged
