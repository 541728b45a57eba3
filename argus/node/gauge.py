"""Times work on a device as the engine would wait for it."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from argus.node.memory import MemoryMeter, open_meter

SLOW_S = 0.5
"""What takes longer is timed once: its spread is small against it."""
FEWEST_RUNS, MOST_RUNS = 3, 20
WORTH_S = 0.1
"""Seconds that one measurement may take where runs are short."""

Work = Callable[[], object]


class Gauge:
    """Seconds and bytes of pieces of work on one device.

    Attributes:
        device: where the work runs.
        meter: reads the memory.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.meter: MemoryMeter = open_meter(device)

    def wait(self) -> None:
        """Return when the device has done all it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def once_s(self, work: Work) -> float:
        """Return the seconds of `work`, done once."""
        self.wait()
        start = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - start

    def best_s(self, work: Work) -> float:
        """Return the least seconds of some runs of `work`, after one that may still allocate."""
        return min(self.once_s(work) for _ in range(runs(self.once_s(work))))


def runs(first_s: float) -> int:
    """Return how often to time what took `first_s` seconds at first."""
    if first_s > SLOW_S:
        return 1
    return min(MOST_RUNS, max(FEWEST_RUNS, int(WORTH_S / first_s)))
