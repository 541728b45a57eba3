"""What a step of the engine costs beyond the forward in it, and where the time goes."""

from __future__ import annotations

import cProfile
import pstats
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from arrivals import Kind, request
from load import Ticket
from ours import EngineServer

from argus.diffusion.adapter import PipelineAdapter

WARM_UP = 2
"""Steps at the beginning of a block that are not counted."""


def step_overhead(
    adapter: PipelineAdapter, server: EngineServer, lanes: int, pairs: int, steps: int
) -> dict[str, Any]:
    """Time engine steps against bare forwards over as many lanes, block by block in turns.

    A pair is one block of either; the two stand next to each other in time, so that a machine
    that slows down slows both. Padding lanes of the engine's bucket count as overhead.
    """
    inputs = _inputs(adapter, lanes)
    engine_s, bare_s = [], []
    for pair in range(pairs):
        engine_s.append(_engine_block(adapter, server, lanes, steps, f"overhead-{lanes}-{pair}"))
        bare_s.append(_bare_block(adapter, inputs, steps))
    extra = [100 * (a / b - 1) for a, b in zip(engine_s, bare_s, strict=True)]
    low, median, high = (float(q) for q in np.quantile(extra, (0.25, 0.5, 0.75)))
    return {
        "lanes": lanes,
        "bare forward ms": 1000 * statistics.median(bare_s),
        "engine step ms": 1000 * statistics.median(engine_s),
        "overhead %": median,
        "lower quartile %": low,
        "upper quartile %": high,
        "pairs": pairs,
    }


def _inputs(adapter: PipelineAdapter, lanes: int) -> tuple[Any, ...]:
    shape = adapter.latent_shape(adapter.info.width, adapter.info.height)
    latents = torch.randn((lanes, *shape)).to(adapter.device, adapter.dtype)
    times = torch.linspace(999.0, 1.0, lanes, device=adapter.device)
    texts = {
        name: torch.randn((lanes, *rest)).to(latents) for name, rest in adapter.conditioning.items()
    }
    return latents, times, texts


def _bare_block(adapter: PipelineAdapter, inputs: tuple[Any, ...], steps: int) -> float:
    """Return the median seconds of a forward; the first ones are not counted."""
    taken = []
    for _ in range(steps):
        start = time.perf_counter()
        adapter.forward(*inputs)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[WARM_UP:])


def _engine_block(
    adapter: PipelineAdapter, server: EngineServer, lanes: int, steps: int, name: str
) -> float:
    """Return the median seconds from step to step while all rows are in the forward."""
    kind = Kind(adapter.info.default_sampler, steps + WARM_UP, guided=False)
    tickets = [
        Ticket(request(kind, adapter.info, f"{name}-{n}", "a red circle", seed=n))
        for n in range(lanes)
    ]
    for ticket in tickets:
        server.submit(ticket)
    for ticket in tickets:
        ticket.wait()
    # The last row to come in saw the others join and none leave before its own steady state ends.
    steady = [at for at, width in tickets[-1].step_s if width == lanes]
    gaps = [b - a for a, b in zip(steady, steady[1:], strict=False)]
    if len(gaps) <= WARM_UP:
        raise RuntimeError(f"{name}: {lanes} rows shared only {len(steady)} of {steps} steps")
    return statistics.median(gaps[WARM_UP:])


def profile_steps(
    adapter: PipelineAdapter, server: EngineServer, lanes: int, steps: int, top: int = 25
) -> list[dict[str, Any]]:
    """Run steps of `lanes` rows under cProfile and return the costliest functions.

    The profiler is switched on at the end of one forward and off at the beginning of another, in
    the engine's own thread, so that whole turns of the engine are in it. It makes Python itself
    slower: shares of small functions are upper bounds.
    """
    profiler = cProfile.Profile()
    plain = adapter.forward
    calls = 0

    def watched(*inputs: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == WARM_UP + steps:
            profiler.disable()
        output = plain(*inputs)
        if calls == WARM_UP:
            profiler.enable()
        return output

    adapter.forward = watched  # type: ignore[method-assign]
    try:
        # Rows that join late would change the number of forwards; there are more than enough.
        _engine_block(adapter, server, lanes, steps + 2 * (WARM_UP + lanes), "profile")
    finally:
        adapter.forward = plain  # type: ignore[method-assign]
    return _rows(profiler, steps, top)


def _rows(profiler: cProfile.Profile, steps: int, top: int) -> list[dict[str, Any]]:
    stats = pstats.Stats(profiler).get_stats_profile()
    total = stats.total_tt
    ordered = sorted(stats.func_profiles.items(), key=lambda item: -item[1].tottime)
    return [
        {
            "function": f"{Path(one.file_name).name}:{name}",
            "own ms a step": 1000 * one.tottime / steps,
            "with callees ms a step": 1000 * one.cumtime / steps,
            "own share %": 100 * one.tottime / total,
        }
        for name, one in ordered[:top]
    ]
