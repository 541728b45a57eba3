"""`make bench-engine`: what the engine does on this machine, everything in one run.

1. Closed loop with 1, 2, 4 and 8 lanes kept busy: images a second, step and image latency.
2. The same Poisson arrivals served step by step and one at a time.
"""

from __future__ import annotations

import argparse
import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import record
import torch

from argus.diffusion.adapter import PipelineAdapter, load_variant
from argus.engine.engine import Engine, EngineOptions
from argus.engine.events import RowDone, RowEvent, RowFailed, RowStep
from argus.models import bundled_variants
from argus.types import ResolvedRequest

PROMPTS = ("a red circle", "a blue square left of a green ring", "two yellow triangles")


class Client:
    """One request's events, with the times at which they came."""

    def __init__(self, engine: Engine, request: ResolvedRequest, due_s: float) -> None:
        self.due_s = due_s
        self.step_s: list[float] = []
        self.finished_s = 0.0
        self.failure = ""
        self.done = threading.Event()
        self.on_done: Callable[[], None] = lambda: None
        self._engine, self._request = engine, request

    def send(self) -> None:
        """Submit the request."""
        self._engine.submit(self._request, self._listen)

    def _listen(self, event: RowEvent) -> None:
        now = time.perf_counter()
        if isinstance(event, RowStep):
            self.step_s.append(now)
        elif isinstance(event, RowFailed):
            self.failure = event.message
            self.done.set()
        elif isinstance(event, RowDone):
            self.finished_s = now
            self.done.set()
            self.on_done()

    def wait(self) -> None:
        """Wait for the picture.

        Raises:
            RuntimeError: none will come.
        """
        self.done.wait()
        if self.failure:
            raise RuntimeError(self.failure)

    @property
    def latency_s(self) -> float:
        """Seconds from when the request was due to its picture."""
        return self.finished_s - self.due_s


def request(number: int, variant: str, steps: int, guidance: float, side: int) -> ResolvedRequest:
    return ResolvedRequest(
        request_id=f"bench-{number}-{guidance}",
        attempt=1,
        prompt=PROMPTS[number % len(PROMPTS)],
        negative_prompt="",
        seed=number,
        width=side,
        height=side,
        steps=steps,
        guidance=guidance,
        sampler="ddim",
        variant=variant,
        level="reference",
    )


def quantiles(values: Sequence[float]) -> tuple[float, float]:
    """Return the median and the 99th percentile in milliseconds."""
    return tuple(1000 * np.quantile(values, (0.5, 0.99)))  # type: ignore[return-value]


def closed_loop(adapter: PipelineAdapter, lanes: int, images: int, steps: int) -> dict[str, Any]:
    """Keep `lanes` rows without guidance in flight until `images` are done."""
    engine = Engine([adapter], EngineOptions(slots=16, max_lanes=8, max_waiting=images))
    info = adapter.info
    clients = [
        Client(engine, request(n, info.name, steps, 1.0, info.width), 0.0) for n in range(images)
    ]
    waiting = list(reversed(clients))
    lock = threading.Lock()

    def send_next() -> None:
        with lock:
            client = waiting.pop() if waiting else None
        if client is not None:
            client.due_s = time.perf_counter()
            client.on_done = send_next
            client.send()

    start = time.perf_counter()
    for _ in range(lanes):
        send_next()
    for client in clients:
        client.wait()
    elapsed = time.perf_counter() - start
    engine.close()
    gaps = [b - a for c in clients for a, b in zip(c.step_s, c.step_s[1:], strict=False)]
    step, image = quantiles(gaps), quantiles([c.latency_s for c in clients])
    return {
        "lanes": lanes,
        "images/s": images / elapsed,
        "step p50 ms": step[0],
        "step p99 ms": step[1],
        "image p50 ms": image[0],
        "image p99 ms": image[1],
    }


def open_loop(
    adapter: PipelineAdapter, options: EngineOptions, arrivals: Sequence[float], steps: int
) -> list[float]:
    """Send guided requests at the given seconds and return their latencies, seconds."""
    engine = Engine([adapter], options)
    info = adapter.info
    start = time.perf_counter() + 0.1
    clients = [
        Client(engine, request(n, info.name, steps, 5.0, info.width), start + at)
        for n, at in enumerate(arrivals)
    ]
    for client in clients:
        time.sleep(max(0.0, client.due_s - time.perf_counter()))
        client.send()
    for client in clients:
        client.wait()
    engine.close()
    return [client.latency_s for client in clients]


def poisson(rate: float, count: int, seed: int) -> list[float]:
    """Return `count` arrival times, seconds, at `rate` a second."""
    rng = random.Random(seed)
    times = [0.0]
    while len(times) < count:
        times.append(times[-1] + rng.expovariate(rate))
    return times


def compare(adapter: PipelineAdapter, load: float, count: int, steps: int) -> list[dict[str, Any]]:
    """Serve the same arrivals both ways; `load` is relative to one-at-a-time capacity."""
    alone = EngineOptions(slots=1, max_lanes=2, max_waiting=count)
    service_s = float(np.median(open_loop(adapter, alone, [0.0], steps)))
    arrivals = poisson(load / service_s, count, seed=1)
    rows = []
    for name, options in (
        ("one at a time", alone),
        ("step level", EngineOptions(slots=16, max_lanes=8, max_waiting=count)),
    ):
        latencies = open_loop(adapter, options, arrivals, steps)
        p50, p99 = quantiles(latencies)
        span = max(a + s for a, s in zip(arrivals, latencies, strict=True))
        in_time = sum(s <= 3 * service_s for s in latencies)
        rows.append(
            {
                "load": load,
                "engine": name,
                "images/s": count / span,
                "mean ms": 1000 * float(np.mean(latencies)),
                "p50 ms": p50,
                "p99 ms": p99,
                "within 3x alone": f"{in_time}/{count}",
            }
        )
    return rows


def main() -> None:
    """Measure and write bench/results/engine.*."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cuda = torch.cuda.is_available()
    folder = arguments.model or next(iter(bundled_variants().values()))
    device = torch.device("cuda" if cuda else "cpu")
    adapter = load_variant(folder, device, torch.float16 if cuda else torch.float32)
    name, steps = adapter.info.name, arguments.steps
    lanes = [closed_loop(adapter, n, arguments.images, steps) for n in (1, 2, 4, 8)]
    arrivals = [
        row for load in (0.6, 0.9, 1.2) for row in compare(adapter, load, arguments.images, steps)
    ]
    tables = {
        f"{name}, {steps} steps, no guidance, lanes kept busy": lanes,
        f"{name}, {steps} steps, guided, same Poisson arrivals": arrivals,
    }
    print(record.write(arguments.out, "engine", tables))


if __name__ == "__main__":
    main()
