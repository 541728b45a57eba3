"""Forwards of one variant: fixed buffers to fill, and CUDA graphs over them.

A forward reads its inputs from buffers of its bucket's size, so that what runs is the same whoever
shares the batch, and so that a captured graph finds its inputs where it left them.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch

from argus.diffusion.adapter import PipelineAdapter
from argus.diffusion.attention import SDPA, use
from argus.engine.fusing import fuse_where_it_wins
from argus.engine.slots import allocate_conditioning
from argus.kernels import reference
from argus.kernels.choose import StepKernels
from argus.kernels.fuse import FusedNorms

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

    def __init__(
        self,
        adapter: PipelineAdapter,
        attention: str = SDPA,
        kernels: StepKernels | None = None,
    ) -> None:
        """Start without graphs.

        Args:
            adapter: resident on its device.
            attention: a back end of `argus.diffusion.attention`.
            kernels: for the two ends of a step; None: plain torch.
        """
        self.adapter = adapter
        self.attention = attention
        self.gather = kernels.gather_inputs if kernels else reference.gather_inputs
        self.update = kernels.update_states if kernels else reference.update_states
        self._fused: list[FusedNorms] = []
        self._buffers: OrderedDict[tuple[Shape, int], Buffers] = OrderedDict()
        self._graphs: dict[tuple[Shape, int], _Graph] = {}

    @property
    def graphs(self) -> int:
        """Graphs captured."""
        return len(self._graphs)

    def has_graph(self, latent: Shape, lanes: int) -> bool:
        """Whether that forward replays a graph."""
        return (latent, lanes) in self._graphs

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
        return self._forward(self.buffers(latent, lanes))

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

    def fuse(self, latent: Shape, sizes: tuple[int, ...]) -> None:
        """Use own kernels in the modules for forwards of these sizes, where they win."""

        def run() -> None:
            for lanes in sizes:
                self._forward(self.buffers(latent, lanes))

        modules = self.adapter.forward_modules().values()
        self._fused = fuse_where_it_wins(self.adapter.info.name, modules, self.adapter.device, run)

    def forget(self) -> None:
        """Drop graphs and buffers and put exchanged modules back, before the weights are moved."""
        for fused in self._fused:
            fused.undo()
        self._fused.clear()
        self._graphs.clear()
        self._buffers.clear()

    def _capture(self, latent: Shape, lanes: int, pool: Any) -> _Graph:
        buffers = self.buffers(latent, lanes)
        side = torch.cuda.Stream(self.adapter.device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(self.adapter.device))
        with torch.cuda.stream(side):
            for _ in range(WARM_UP_FORWARDS):
                self._forward(buffers)
        torch.cuda.current_stream(self.adapter.device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # Other threads decode and load meanwhile; their calls must not spoil the capture.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            output = self._forward(buffers)
        return _Graph(graph, output)

    def _forward(self, buffers: Buffers) -> torch.Tensor:
        inputs = buffers.latents, buffers.timesteps, buffers.conditioning
        if self.attention == SDPA:
            return self.adapter.forward(*inputs)
        with use(self.adapter, self.attention):
            return self.adapter.forward(*inputs)

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
