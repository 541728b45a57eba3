"""Forwards of one variant: fixed buffers to fill, and CUDA graphs over them.

A forward reads its inputs from buffers of its bucket's size, so that what runs is the same whoever
shares the batch, and so that a captured graph finds its inputs where it left them.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from argus.diffusion.adapter import PipelineAdapter
from argus.diffusion.attention import SDPA, use
from argus.engine.slots import allocate_conditioning
from argus.engine.tuning import Tuning
from argus.kernels import reference
from argus.kernels.fuse import fuse_norms

log = logging.getLogger(__name__)

KEPT_EAGER_BUFFERS = 16
"""Buffers of shapes without a graph that are kept for the next forward of their shape."""
WARM_UP_FORWARDS = 2
"""Forwards before a capture, which let libraries choose and allocate outside of it."""

Shape = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Buffers:
    """Inputs of one forward.

    Attributes:
        latents: (lanes, channels, height, width) in the model's dtype.
        timesteps: (lanes,) float32.
        conditioning: by name, each (lanes, …) in the model's dtype.
    """

    latents: torch.Tensor
    timesteps: torch.Tensor
    conditioning: dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class _Graph:
    graph: torch.cuda.CUDAGraph
    output: torch.Tensor


class Forwards:
    """The forwards of a variant. `buffers` and `run` are for the device thread only.

    `capture` records graphs for one latent shape, largest bucket first, in one memory pool;
    every other shape runs eagerly, and so does everything where there is no CUDA.
    """

    def __init__(self, adapter: PipelineAdapter, tuning: Tuning | None = None) -> None:
        """Apply what was chosen; start without graphs.

        Args:
            adapter: resident on its device.
            tuning: what makes it fast; None: nothing does.
        """
        self.adapter = adapter
        self.tuning = tuning = tuning or Tuning()
        kernels, norms = tuning.kernels, tuning.norms
        self.gather = kernels.gather_inputs if kernels else reference.gather_inputs
        self.update = kernels.update_states if kernels else reference.update_states
        modules = (*adapter.forward_modules().values(), *adapter.decode_modules().values())
        self._fused = [fuse_norms(module, norms) for module in modules] if norms else []
        self._buffers: OrderedDict[tuple[Shape, int], Buffers] = OrderedDict()
        self._graphs: dict[tuple[Shape, int], _Graph] = {}

    @property
    def graphs(self) -> int:
        """Graphs captured."""
        return len(self._graphs)

    def buffers(self, latent: Shape, lanes: int) -> Buffers:
        """Return the buffers to fill for a forward of `lanes` lanes; they are used again."""
        key = (latent, lanes)
        found = self._buffers.get(key)
        if found is None:
            found = self._allocate(latent, lanes)
            self._forget_eager()
            self._buffers[key] = found
        self._buffers.move_to_end(key)
        return found

    def run(self, latent: Shape, lanes: int) -> torch.Tensor:
        """Return the model's output (lanes, channels, height, width) for the filled buffers.

        It is overwritten by the next run of the same size.
        """
        captured = self._graphs.get((latent, lanes))
        if captured is not None:
            captured.graph.replay()
            return captured.output
        buffers = self.buffers(latent, lanes)
        return self.forward(buffers.latents, buffers.timesteps, buffers.conditioning)

    def forward(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        """Return the model's output; shapes as in `PipelineAdapter.forward`."""
        if self.tuning.attention == SDPA:
            return self.adapter.forward(latents, timesteps, conditioning)
        with use(self.adapter, self.tuning.attention):
            return self.adapter.forward(latents, timesteps, conditioning)

    def capture(self, latent: Shape, sizes: tuple[int, ...]) -> None:
        """Capture a graph for every size; on failure the variant stays eager, and the log says so.

        Does nothing on a device without graphs.
        """
        if self.adapter.device.type != "cuda":
            return
        with torch.cuda.device(self.adapter.device):
            pool = torch.cuda.graph_pool_handle()
            try:
                for lanes in sorted(sizes, reverse=True):
                    self._graphs[latent, lanes] = self._capture(latent, lanes, pool)
            except RuntimeError:
                log.exception("%s: no CUDA graphs; it runs eagerly", self.adapter.info.name)
                self._graphs.clear()
                torch.cuda.synchronize()

    def forget(self) -> None:
        """Drop graphs and buffers and put exchanged modules back, before the weights are moved."""
        for fused in self._fused:
            fused.undo()
        self._fused.clear()
        self._graphs.clear()
        self._buffers.clear()

    def _capture(self, latent: Shape, lanes: int, pool: Any) -> _Graph:
        buffers = self.buffers(latent, lanes)
        inputs = buffers.latents, buffers.timesteps, buffers.conditioning
        here = torch.cuda.current_stream(self.adapter.device)
        side = torch.cuda.Stream(self.adapter.device)  # type: ignore[no-untyped-call]
        side.wait_stream(here)
        with torch.cuda.stream(side):
            for _ in range(WARM_UP_FORWARDS):
                self.forward(*inputs)
        here.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # The first for a capture that fails, which would leave the thread on its stream; in the
        # second, other threads' calls must not spoil the capture: they decode and load meanwhile.
        with (
            torch.cuda.stream(here),
            torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"),
        ):
            output = self.forward(*inputs)
        return _Graph(graph, output)

    def _allocate(self, latent: Shape, lanes: int) -> Buffers:
        device, dtype = self.adapter.device, self.adapter.dtype
        return Buffers(
            torch.zeros((lanes, *latent), dtype=dtype, device=device),
            torch.zeros(lanes, device=device),
            allocate_conditioning(lanes, self.adapter.conditioning, dtype, device),
        )

    def _forget_eager(self) -> None:
        eager = [key for key in self._buffers if key not in self._graphs]
        for key in eager[: max(0, len(eager) - KEPT_EAGER_BUFFERS + 1)]:
            del self._buffers[key]
