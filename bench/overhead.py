"""What a step of the engine costs beyond the forward in it, and where the time goes."""

from __future__ import annotations

import cProfile
import pstats
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from arrivals import Kind, request
from load import StepMark, Ticket
from ours import EngineServer

from argus.diffusion.adapter import PipelineAdapter

WARM_UP = 2
"""Steps at the beginning of a block that are not counted."""


@dataclass(frozen=True, slots=True)
class Block:
    """Median seconds of one step in a block of many."""

    wall_s: float
    processor_s: float


def step_overhead(
    adapter: PipelineAdapter, server: EngineServer, lanes: int, pairs: int, steps: int
) -> dict[str, Any]:
    """Time engine steps against bare forwards over as many lanes, block by block in turns.

    A pair is one block of either; the two stand next to each other in time, so that a machine
    that slows down slows both. Padding lanes of the engine's bucket count as overhead. Processor
    seconds are those of the stepping thread: they leave out what other programs took, and also
    what the engine waited for; they are all there is only with one compute thread.
    """
    inputs = _inputs(adapter, lanes)
    engine, bare = [], []
    for pair in range(pairs):
        engine.append(_engine_block(adapter, server, lanes, steps, f"overhead-{lanes}-{pair}"))
        bare.append(_bare_block(adapter, inputs, steps))
    return {
        "lanes": lanes,
        "bare forward ms": 1000 * statistics.median(block.wall_s for block in bare),
        "engine step ms": 1000 * statistics.median(block.wall_s for block in engine),
        **_spread("overhead", [(a.wall_s, b.wall_s) for a, b in zip(engine, bare, strict=True)]),
        **_spread(
            "processor overhead",
            [(a.processor_s, b.processor_s) for a, b in zip(engine, bare, strict=True)],
        ),
        "pairs": pairs,
    }


def _spread(name: str, pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Return by how many per cent the first of each pair exceeds the second: the quartiles."""
    extra = [100 * (a / b - 1) for a, b in pairs]
    low, median, high = (float(q) for q in np.quantile(extra, (0.25, 0.5, 0.75)))
    return {f"{name} %": median, f"{name} low": low, f"{name} high": high}


def _inputs(adapter: PipelineAdapter, lanes: int) -> tuple[Any, ...]:
    shape = adapter.latent_shape(adapter.info.width, adapter.info.height)
    latents = torch.randn((lanes, *shape)).to(adapter.device, adapter.dtype)
    times = torch.linspace(999.0, 1.0, lanes, device=adapter.device)
    texts = {
        name: torch.randn((lanes, *rest)).to(latents) for name, rest in adapter.conditioning.items()
    }
    return latents, times, texts


def _bare_block(adapter: PipelineAdapter, inputs: tuple[Any, ...], steps: int) -> Block:
    """Run the forward alone, one after another."""
    marks = []
    for _ in range(steps):
        adapter.forward(*inputs)
        marks.append(StepMark(time.perf_counter(), time.thread_time(), len(inputs[1])))
    return _block(marks)


def _block(marks: Sequence[StepMark]) -> Block:
    """Return the median gap from mark to mark; the first ones are not counted."""
    gaps = list(zip(marks, marks[1:], strict=False))[WARM_UP:]
    return Block(
        statistics.median(after.wall_s - before.wall_s for before, after in gaps),
        statistics.median(after.processor_s - before.processor_s for before, after in gaps),
    )


def _engine_block(
    adapter: PipelineAdapter, server: EngineServer, lanes: int, steps: int, name: str
) -> Block:
    """Run so many rows that every forward has `lanes` lanes, and time it from step to step."""
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
    steady = [mark for mark in tickets[-1].steps if mark.lanes == lanes]
    if len(steady) <= WARM_UP + 1:
        raise RuntimeError(f"{name}: {lanes} rows shared only {len(steady)} of {steps} steps")
    return _block(steady)


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
