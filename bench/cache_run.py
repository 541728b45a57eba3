"""One engine, its cache, and prompts run through both, for `make bench-cache`."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from argus.cache.embedders import ClipTextEmbedder
from argus.cache.index import EmbedderId
from argus.cache.index_embedded import EmbeddedIndex
from argus.cache.keys import EntryKey, Partition
from argus.config import CacheConfig
from argus.control.reuse import checkpoint_steps
from argus.diffusion.adapter import load_variant
from argus.engine.engine import Engine, EngineOptions
from argus.engine.events import RowDone, RowEvent, RowFailed, RowStates
from argus.models import bundled_variants
from argus.node.cache import NodeCache
from argus.types import ResolvedRequest
from argus.v1 import cluster_pb2

VARIANT = "scenes-base"
GUIDANCE = 1.5
LANES = 24
"""Of the widest forward: this model is small, and wide batches are what it runs fastest in."""
NODE = "bench"
Pixels = NDArray[np.uint8]


@dataclass(slots=True)
class Batch:
    """Pictures (n, height, width, 3) of prompts that were run together, and what they took."""

    pixels: Pixels
    wall_s: float
    processor_s: float
    missed: int = 0

    @property
    def count(self) -> int:
        """Number of pictures."""
        return len(self.pixels)


@dataclass(slots=True)
class _Rows:
    """Collects pictures; at most `room` rows are in the engine."""

    room: threading.Semaphore
    data: dict[int, bytes] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    missed: int = 0


class Bench:
    """An engine with the base variant, the cache of a node, and the index of a coordinator.

    Args:
        folder: for the cache's files.
        steps: of every schedule.
    """

    def __init__(self, folder: Path, steps: int) -> None:
        model = bundled_variants()[VARIANT]
        adapter = load_variant(model, torch.device("cpu"), torch.float32)
        options = EngineOptions(slots=LANES // 2, max_lanes=LANES)
        self.engine = Engine([adapter], options)
        self.cache = NodeCache(CacheConfig(folder=str(folder)), NODE, half=False)
        self._held: dict[str, tuple[int, ...]] = {}
        self.cache.listen(self._reported)
        self.embedder = ClipTextEmbedder(model / "text_encoder")
        self.index = EmbeddedIndex(EmbedderId(self.embedder.name, self.embedder.dimension))
        self.steps = steps
        self.ks = checkpoint_steps(steps)
        self._partition = Partition.of(
            variant=VARIANT, weights="0" * 32, sampler="ddim", steps=steps, width=64, height=64,
            guidance=GUIDANCE,
        )  # fmt: skip
        self._request = ResolvedRequest(
            request_id="", attempt=1, prompt="", negative_prompt="", seed=0, width=64, height=64,
            steps=steps, guidance=GUIDANCE, sampler="ddim", variant=VARIANT, level="",
        )  # fmt: skip
        self._runs = 0

    def close(self) -> None:
        """End the threads."""
        self.engine.close()
        self.cache.close()
        self.index.close()

    def embed(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Return one vector of length 1 a prompt."""
        parts = [self.embedder.embed(prompts[i : i + 32]) for i in range(0, len(prompts), 32)]
        return np.concatenate(parts)

    def fill(self, prompts: Sequence[str]) -> Batch:
        """Run prompts whole, keep their states, and record them in the index."""
        batch = self.run(prompts, keep=True)
        self.cache.flush(60.0)
        for prompt, vector in zip(prompts, self.embed(prompts), strict=True):
            key = self.key(prompt)
            self.index.record(self._partition, key, vector, NODE, self._held[str(key)])
        return batch

    def key(self, prompt: str) -> EntryKey:
        """Return a prompt's entry."""
        return EntryKey.of(self._partition, prompt)

    def nearest(self, prompts: Sequence[str]) -> list[tuple[str, float]]:
        """Return the key of the nearest entry to each prompt, and the similarity."""
        found = []
        for vector in self.embed(prompts):
            neighbour = self.index.nearest(self._partition, vector)
            if neighbour is None:
                raise RuntimeError("the index is empty")
            found.append((str(neighbour.key), neighbour.similarity))
        return found

    def run(
        self,
        prompts: Sequence[str],
        *,
        start: Sequence[str] = (),
        skip: int = 0,
        keep: bool = False,
    ) -> Batch:
        """Run one row a prompt, as many at once as there are slots; row i has the seed i.

        Args:
            prompts: what to draw.
            start: with `skip`, the entry that each starts from.
            skip: steps not run.
            keep: whether the states are kept under the prompts' own entries.
        """
        rows = _Rows(threading.Semaphore(LANES))
        self._runs += 1
        wall_s, processor_s = time.perf_counter(), time.process_time()
        for i, prompt in enumerate(prompts):
            rows.room.acquire()
            request = replace(
                self._request,
                request_id=f"{self._runs}-{i}",
                prompt=prompt,
                seed=i,
                skip=skip,
                start_key=start[i] if skip else "",
                checkpoints=self.ks if keep else (),
                keep_key=str(self.key(prompt)) if keep else "",
            )
            self._submit(i, request, rows)
        for _ in range(LANES):
            rows.room.acquire()
        wall_s, processor_s = time.perf_counter() - wall_s, time.process_time() - processor_s
        if rows.failed:
            raise RuntimeError(f"{len(rows.failed)} rows failed: {rows.failed[0]}")
        pixels = np.stack([_pixels(rows.data[i]) for i in range(len(prompts))])
        return Batch(pixels, wall_s, processor_s, rows.missed)

    def _submit(self, i: int, request: ResolvedRequest, rows: _Rows) -> None:
        def listen(event: RowEvent) -> None:
            if isinstance(event, RowStates):
                self.cache.keep(request.keep_key, "", request.steps, event.latents)
            elif isinstance(event, RowDone):
                rows.data[i] = event.data
                rows.missed += event.skipped != request.skip
                rows.room.release()
            elif isinstance(event, RowFailed):
                rows.failed.append(event.message)
                rows.room.release()

        state: Future[Any] | None = None
        if request.skip:
            state = self.cache.fetch(request.start_key, request.skip).latents
        self.engine.submit(request, listen, state, 60.0)

    def _reported(self, report: cluster_pb2.CacheReport) -> None:
        self._held |= {entry.key: tuple(entry.steps) for entry in report.held}


def _pixels(data: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
