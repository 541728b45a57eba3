"""The limits and choices of an engine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Limits of an engine, and what it may use to be fast.

    Attributes:
        slots: rows that can be in flight at once.
        max_lanes: lanes of the widest forward; the probe may settle for fewer.
        max_waiting: rows accepted beyond the slots.
        weights_bytes: budget of weights on the device; 0: all variants stay there.
        host_bytes: budget of parked weights in host memory, for devices with memory of their own.
        graphs: whether CUDA graphs are captured.
        fused_update: whether own kernels for the ends of a step are used where they win.
        fused_norms: whether own kernels for GroupNorm and SiLU are used where they win.

    The last three are without effect on the CPU.
    """

    slots: int = 16
    max_lanes: int = 8
    max_waiting: int = 64
    weights_bytes: int = 0
    host_bytes: int = 0
    graphs: bool = True
    fused_update: bool = True
    fused_norms: bool = True
