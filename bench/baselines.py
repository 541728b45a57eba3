"""What Argus is compared with: diffusers' own pipeline, one request at a time or in batches."""

from __future__ import annotations

import io
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import diffusers
import torch
from load import Ticket
from PIL import Image

from argus.types import ResolvedRequest, lanes

SCHEDULERS = {
    "ddim": diffusers.DDIMScheduler,
    "dpmpp_2m": diffusers.DPMSolverMultistepScheduler,
    "euler": diffusers.EulerDiscreteScheduler,
    "lcm": diffusers.LCMScheduler,
}
"""diffusers' classes for the samplers that the benchmarks ask for."""

BatchKey = tuple[str, int, float, int, int]


def load_pipeline(folder: Path, device: torch.device, dtype: torch.dtype) -> Any:
    """Load a folder as a user of diffusers would."""
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    pipeline = diffusers.DiffusionPipeline.from_pretrained(
        folder, dtype=dtype, local_files_only=True
    )
    return pipeline.to(device)


def batch_key(request: ResolvedRequest) -> BatchKey:
    """Return what must be equal for two requests to share a call of the pipeline."""
    size = (request.width, request.height)
    return request.sampler, request.steps, request.guidance, *size


class Pipeline:
    """A diffusers pipeline that draws equal requests in one call; for one thread at a time."""

    def __init__(self, pipeline: Any) -> None:
        pipeline.set_progress_bar_config(disable=True)
        self._pipeline = pipeline
        self._config = {"clip_sample": False, **pipeline.scheduler.config}

    def draw(self, batch: Sequence[ResolvedRequest]) -> list[Image.Image]:
        """Return the pictures of requests with one batch key, each from its own seed."""
        first = batch[0]
        self._pipeline.scheduler = SCHEDULERS[first.sampler].from_config(self._config)
        result = self._pipeline(
            [request.prompt for request in batch],
            negative_prompt=[request.negative_prompt for request in batch],
            width=first.width,
            height=first.height,
            num_inference_steps=first.steps,
            guidance_scale=first.guidance,
            generator=[torch.Generator("cpu").manual_seed(request.seed) for request in batch],
        )
        pictures: list[Image.Image] = result.images
        return pictures


class PipelineServer:
    """Request-level dynamic batching: the oldest request and all waiting ones like it go together.

    A batch starts as soon as the pipeline is free, or `wait_s` later where that is not zero and
    the batch is not full. Pictures are compressed in threads, as the engine does it.

    Args:
        pipeline: who draws.
        max_lanes: lanes of the widest forward; a guided request takes two. With one lane every
            request is drawn alone.
        wait_s: artificial wait for a fuller batch.
        name: in tables.
    """

    def __init__(self, pipeline: Pipeline, max_lanes: int, wait_s: float, name: str) -> None:
        self.name = name
        self._pipeline, self._max_lanes, self._wait_s = pipeline, max_lanes, wait_s
        self._changed = threading.Condition()
        self._waiting: deque[Ticket] = deque()
        self._drawing: list[Ticket] = []
        self._stopping = False
        self._encoders = ThreadPoolExecutor(2, thread_name_prefix="encode")
        self._thread = threading.Thread(target=self._run, name="pipeline", daemon=True)
        self._thread.start()

    def submit(self, ticket: Ticket) -> None:
        """Queue a request."""
        with self._changed:
            self._waiting.append(ticket)
            self._changed.notify_all()

    def give_up(self, tickets: Sequence[Ticket]) -> None:
        """Drop these requests; a batch that is being drawn is waited for."""
        dropped = set(tickets)
        with self._changed:
            self._waiting = deque(t for t in self._waiting if t not in dropped)
            self._changed.wait_for(lambda: not self._drawing)

    def close(self) -> None:
        """End the threads; nothing may be waiting."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join()
        self._encoders.shutdown()

    def room(self, request: ResolvedRequest) -> int:
        """Return how many requests like this one fit into a batch."""
        return max(1, self._max_lanes // lanes(request.guidance, False))

    def _like_the_first(self) -> list[Ticket]:
        first = self._waiting[0].request
        key = batch_key(first)
        mates = [ticket for ticket in self._waiting if batch_key(ticket.request) == key]
        return mates[: self.room(first)]

    def _next_batch(self) -> list[Ticket]:
        """Wait for requests and take a batch; an empty one when it is time to stop."""
        with self._changed:
            self._drawing = []
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._waiting or self._stopping)
            if self._wait_s and self._waiting:
                self._changed.wait_for(self._is_full, self._wait_s)
            if not self._waiting:
                return []
            batch = self._like_the_first()
            self._waiting = deque(t for t in self._waiting if t not in batch)
            self._drawing = batch
            return batch

    def _is_full(self) -> bool:
        if self._stopping or not self._waiting:
            return True
        return len(self._like_the_first()) == self.room(self._waiting[0].request)

    def _run(self) -> None:
        while not self._stopping:
            batch = self._next_batch()
            if not batch:
                continue
            try:
                pictures = self._pipeline.draw([ticket.request for ticket in batch])
            except Exception as error:
                for ticket in batch:
                    ticket.fail(f"{type(error).__name__}: {error}")
                continue
            for ticket, picture in zip(batch, pictures, strict=True):
                self._encoders.submit(_deliver, ticket, picture)


def _deliver(ticket: Ticket, picture: Image.Image) -> None:
    picture.save(io.BytesIO(), "PNG")
    ticket.finish()
