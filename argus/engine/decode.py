"""The decode queue: latents to pixels to bytes, apart from denoising."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from argus.diffusion.adapter import PipelineAdapter
from argus.engine.images import encode_image, encode_preview
from argus.engine.row import Row

log = logging.getLogger(__name__)

CUDA_BATCH = 4
"""Images decoded together on CUDA; on the CPU one at a time, which is as fast there."""


@dataclass(frozen=True, slots=True)
class DecodeJob:
    """Latents (channels, height, width) of a row that no step will touch any more.

    `preview_step` is the step a preview was taken at, or 0 for the finished image. `ready` tells
    the decode stream when the copy is complete on CUDA.
    """

    row: Row
    adapter: PipelineAdapter
    latents: torch.Tensor
    preview_step: int
    ready: torch.cuda.Event | None


DoneCallback = Callable[[DecodeJob, bytes], None]
FailedCallback = Callable[[DecodeJob, Exception], None]


class DecodeQueue:
    """One thread that runs the VAE, and a few that compress."""

    def __init__(self, on_done: DoneCallback, on_failed: FailedCallback, encoders: int = 2) -> None:
        self._on_done = on_done
        self._on_failed = on_failed
        self._jobs: queue.SimpleQueue[DecodeJob | None] = queue.SimpleQueue()
        self._encoders = ThreadPoolExecutor(encoders, thread_name_prefix="argus-encode")
        self._thread = threading.Thread(target=self._run, name="argus-decode", daemon=True)
        self._thread.start()

    def submit(self, job: DecodeJob) -> None:
        """Queue a job; the engine bounds how many there are."""
        self._jobs.put(job)

    def close(self) -> None:
        """Finish what is queued and end the threads."""
        self._jobs.put(None)
        self._thread.join()
        self._encoders.shutdown(wait=True)

    def _run(self) -> None:
        held: DecodeJob | None = None
        stream: torch.cuda.Stream | None = None
        while (job := held or self._jobs.get()) is not None:
            if job.ready is not None and stream is None:
                stream = torch.cuda.Stream(job.latents.device)  # type: ignore[no-untyped-call]
            batch, held = self._gather(job)
            with torch.cuda.stream(stream):
                self._decode(batch, stream)

    def _gather(self, first: DecodeJob) -> tuple[list[DecodeJob], DecodeJob | None]:
        """Return jobs to decode with `first`, and one taken from the queue that does not fit."""
        batch = [first]
        while first.ready is not None and len(batch) < CUDA_BATCH:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                self._jobs.put(None)
                break
            if job.row.key != first.row.key:
                return batch, job
            batch.append(job)
        return batch, None

    def _decode(self, batch: list[DecodeJob], stream: torch.cuda.Stream | None) -> None:
        live = [job for job in batch if not job.row.cancelled and not job.row.state.is_final]
        if not live:
            return
        try:
            for job in live:
                if job.ready is not None and stream is not None:
                    stream.wait_event(job.ready)
            pixels = live[0].adapter.decode(torch.stack([job.latents for job in live])).numpy()
        except Exception as error:
            log.exception("decoding failed")
            for job in live:
                self._on_failed(job, error)
            return
        for job, image in zip(live, pixels, strict=True):
            self._encoders.submit(self._encode, job, image)

    def _encode(self, job: DecodeJob, pixels: NDArray[np.uint8]) -> None:
        try:
            if job.preview_step:
                data = encode_preview(pixels)
            else:
                data = encode_image(pixels, job.row.request.format)
        except Exception as error:
            log.exception("image encoding failed")
            self._on_failed(job, error)
            return
        self._on_done(job, data)
