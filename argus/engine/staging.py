"""Small arrays on their way to the device: one copy for all that a step needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

ALIGNMENT = 16
"""Bytes; every array starts at a multiple, so that kernels may load it in wide words."""


def send(arrays: Mapping[str, NDArray[Any]], device: torch.device) -> dict[str, torch.Tensor]:
    """Return the arrays as tensors on `device`, same names, dtypes and shapes.

    On CUDA they travel together in one pinned buffer, and nothing waits for the copy. On the CPU
    the tensors share the arrays' memory.
    """
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    if device.type != "cuda":
        return {name: torch.from_numpy(array) for name, array in whole.items()}
    places: dict[str, int] = {}
    end = 0
    for name, array in whole.items():
        places[name] = end
        end += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
    host = torch.empty(end, dtype=torch.uint8, pin_memory=True)
    buffer = host.numpy()
    for name, array in whole.items():
        buffer[places[name] : places[name] + array.nbytes] = array.reshape(-1).view(np.uint8)
    moved = host.to(device, non_blocking=True)
    return {
        name: moved[places[name] : places[name] + array.nbytes]
        .view(torch.from_numpy(array).dtype)
        .view(array.shape)
        for name, array in whole.items()
    }
