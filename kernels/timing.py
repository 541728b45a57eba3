"""Seconds of a call on a CUDA device, with and without the cost of launching it."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch

CALLS = 20
"""Calls between two events: one alone is shorter than the clock of an event is fine."""
REPEATS = 9


def seconds_per_call(
    call: Callable[[], object], device: torch.device, graphed: bool = False
) -> float:
    """Return the median seconds of `call` on `device`, which must be a CUDA device.

    Args:
        call: what is measured; run a few times beforehand, so that what it compiles is compiled.
        device: where it runs.
        graphed: replay a captured graph of the calls, as the engine does, which leaves out the
            host's part; `call` must then be fit for capture.
    """
    with torch.cuda.device(device):
        for _ in range(3):
            call()
        torch.cuda.synchronize()
        run = _captured(call) if graphed else _repeated(call)
        run()
        taken: list[float] = []
        for _ in range(REPEATS):
            start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            start.record()
            run()
            end.record()
            end.synchronize()
            taken.append(start.elapsed_time(end) / 1e3 / CALLS)
    return statistics.median(taken)


def _repeated(call: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        for _ in range(CALLS):
            call()

    return run


def _captured(call: Callable[[], object]) -> Callable[[], None]:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(CALLS):
            call()
    return graph.replay
