"""`make bench-engine`: what the engine does on this machine, everything in one run.

1. The same Poisson arrivals served by the engine, by diffusers one request at a time, and by
   diffusers with request-level dynamic batching: a mix of requests, then equal ones.
2. Closed loop with 1 to 16 lanes kept busy: images a second, step and image latency.
3. A step of the engine over the bare forward.

docs/benchmarks.md says how to read the tables.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import record
import torch
from arrivals import MIXED, SAME, Kind, requests
from baselines import Pipeline, load_pipeline
from contest import Contest, Extent
from load import closed_loop
from ours import EngineServer
from overhead import profile_steps, step_overhead

from argus.diffusion.adapter import PipelineAdapter, load_variant
from argus.engine.engine import Engine, EngineOptions
from argus.models import bundled_variants

LANES = (8, 16)
"""Lanes of the widest forward that either batcher may choose from."""
BUSY = (1, 2, 4, 8, 16)
CPU = torch.device("cpu")

Table = list[dict[str, Any]]


def closed_loops(
    adapter: PipelineAdapter, servers: dict[int, EngineServer], images: int, steps: int
) -> Table:
    """Keep rows without guidance in flight, each lane a row."""
    rows = []
    kind = Kind(adapter.info.default_sampler, steps, guided=False)
    for lanes in BUSY:
        server = servers[min(width for width in servers if width >= lanes)]
        count = max(images, 3 * lanes)
        drawn = requests([kind], count, lanes, adapter.info, f"closed-{lanes}")
        run = closed_loop(server, [wanted for _, wanted in drawn], lanes)
        step, image = (
            [1000 * float(q) for q in np.quantile(values, (0.5, 0.99))]
            for values in (run.step_gaps_s, run.latencies_s)
        )
        rows.append(
            {
                "lanes": lanes,
                "images/s": run.images_per_s,
                "step p50 ms": step[0],
                "step p99 ms": step[1],
                "image p50 ms": image[0],
                "image p99 ms": image[1],
            }
        )
    return rows


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the settings; the defaults are those of the published tables."""
    parser = argparse.ArgumentParser(description="Measure the engine on the CPU.")
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    parser.add_argument("--model", type=Path, default=None, help="diffusers folder")
    parser.add_argument("--threads", type=int, default=1, help="compute threads of a forward")
    parser.add_argument("--window", type=float, default=8.0, help="seconds of arrivals in a run")
    parser.add_argument("--repeats", type=int, default=2, help="runs at each load")
    parser.add_argument(
        "--loads", type=float, nargs="+", default=[0.5, 0.8, 1.0, 1.2], help="shares of capacity"
    )
    parser.add_argument("--images", type=int, default=12, help="images of a closed loop")
    parser.add_argument("--pairs", type=int, default=12, help="pairs of blocks for the overhead")
    parser.add_argument("--steps", type=int, default=20, help="of closed loops and blocks")
    parser.add_argument(
        "--fraction", type=float, default=1.0, help="of the mixes' steps; below 1 for a quick look"
    )
    parser.add_argument("--profile", action="store_true", help="also say where a step's time goes")
    return parser.parse_args(arguments)


def measure(settings: argparse.Namespace) -> dict[str, Table]:
    """Return every table by its heading."""
    folder = settings.model or next(iter(bundled_variants().values()))
    adapter = load_variant(folder, CPU, torch.float32)
    variant = adapter.info
    pipeline = Pipeline(load_pipeline(folder, CPU, torch.float32))
    servers = {
        width: EngineServer(
            Engine([adapter], EngineOptions(slots=16, max_lanes=width, max_waiting=4096)),
            f"step level (Argus), up to {width} lanes",
        )
        for width in LANES
    }
    extent = Extent(
        tuple(settings.loads), settings.window, settings.repeats, saturation=2 * settings.images
    )
    tables: dict[str, Table] = {}
    for name, mix in (("mixed requests", MIXED), ("equal requests", SAME)):
        print(f"serving {name}", file=sys.stderr)
        kinds = [kind.shortened(settings.fraction) for kind in mix]
        tables |= Contest(pipeline, servers, variant, kinds, extent, name).run()
    print("closed loops, overhead", file=sys.stderr)
    heading = f"{variant.name}, {settings.steps} steps, no guidance, lanes kept busy"
    tables[heading] = closed_loops(adapter, servers, settings.images, settings.steps)
    narrow = servers[LANES[0]]
    tables["engine step over the bare forward, no guidance"] = [
        step_overhead(adapter, narrow, lanes, settings.pairs, settings.steps)
        for lanes in BUSY
        if lanes <= LANES[0]
    ]
    if settings.profile:
        heading = f"where a step of {LANES[0]} lanes goes (cProfile)"
        tables[heading] = profile_steps(adapter, narrow, LANES[0], settings.steps)
    for server in servers.values():
        server.close()
    return tables


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write engine.json and engine.md."""
    settings = parse(arguments)
    torch.set_num_threads(settings.threads)
    print(record.write(settings.out, "engine", measure(settings)))


if __name__ == "__main__":
    main()
