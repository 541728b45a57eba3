"""The modules of one variant: where they lie, how large they are, and moving them.

A variant has three homes: the device it runs on, the host's memory (pinned where there is CUDA, so
that it comes back at the full speed of the bus), and the disk, when its modules are on "meta" and
hold nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny

from argus.diffusion.weights import load_modules

META = torch.device("meta")


class ResidentModules:
    """The neural modules of a pipeline, by their names in model_index.json.

    `move` is for one thread at a time, while no other uses the modules or captures a CUDA graph.

    Attributes:
        device: where all of them are; "meta" when their weights are on disk only.
        weights_bytes: of all parameters and buffers, wherever they are.
    """

    def __init__(
        self,
        folder: Path,
        parts: Mapping[str, Any],
        device: torch.device,
        dtype: torch.dtype,
        *,
        float32: Iterable[str] = (),
        channels_last: Iterable[str] = (),
    ) -> None:
        """Take the modules among `parts` and put them on a device.

        Args:
            folder: they are loaded from again after they were on "meta".
            parts: of a pipeline; what is not a module is left out.
            device: where to, and where they will run.
            dtype: of the modules.
            float32: names of those that need float32 instead.
            channels_last: names of those made of 2-d convolutions.
        """
        self._folder = folder
        self._dtype = dtype
        self._float32 = frozenset(float32)
        self._channels_last = frozenset(channels_last)
        self._modules = {n: m for n, m in parts.items() if isinstance(m, torch.nn.Module)}
        self._home = device
        self.device = torch.device("cpu")
        self._place(self._modules, device)
        self.device = device
        self.weights_bytes = sum(t.nbytes for m in self._modules.values() for t in _tensors(m))

    def __getitem__(self, name: str) -> Any:
        return self._modules[name]

    def __contains__(self, name: str) -> bool:
        return name in self._modules

    def move(self, device: torch.device) -> None:
        """Move all modules; to "meta" drops their weights, from there loads them from disk.

        When it fails, as for want of memory, they are all where they were before.

        Raises:
            ModelError: the folder can no longer be read.
            torch.OutOfMemoryError: no room for them.
        """
        if device == self.device:
            return
        if self.device.type == "cuda":
            # Nothing may still be reading what is about to be freed, on any stream.
            torch.cuda.synchronize(self.device)
        modules = self._modules
        if self.device.type == "meta":
            modules = dict(load_modules(self._folder, self._dtype))
        try:
            self._place(modules, device)
        except Exception:
            if self.device.type != "meta":
                self._place(modules, self.device)
            raise
        self._modules = modules
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.device = device

    def _place(self, modules: Mapping[str, Any], device: torch.device) -> None:
        if device.type != "cuda":
            for name, module in modules.items():
                self._put(name, module, device)
                if device.type == "cpu" and self._home.type == "cuda":
                    _pin(module)
            return
        # On a stream of its own, so that a copy does not wait behind the steps of other variants.
        # The host waits for it before anyone can launch a kernel that reads the weights, and
        # `move` waits for the whole device before they are freed; no other order is needed.
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        try:
            with torch.cuda.stream(stream):
                for name, module in modules.items():
                    self._put(name, module, device)
        finally:
            # Also when memory ran out halfway: what was begun must be done before it is undone.
            stream.synchronize()

    def _put(self, name: str, module: Any, device: torch.device) -> None:
        dtype = torch.float32 if name in self._float32 else None
        module.eval().to(device=device, dtype=dtype, non_blocking=device.type == "cuda")
        if name in self._channels_last and device.type != "meta":
            fits = device.type == "cuda" or isinstance(module, AutoencoderTiny)
            module.to(memory_format=torch.channels_last if fits else torch.contiguous_format)


def _tensors(module: torch.nn.Module) -> Iterable[torch.Tensor]:
    return chain(module.parameters(), module.buffers())


def _pin(module: torch.nn.Module) -> None:
    for tensor in _tensors(module):
        tensor.data = tensor.data.pin_memory()
