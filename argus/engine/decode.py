"""The decode queue: latents to pixels to bytes, apart from denoising."""

from __future__ import annotations

import itertools
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray

from argus.diffusion.adapter import PipelineAdapter
from argus.engine.images import encode_image, encode_preview
from argus.engine.row import Row

log = logging.getLogger(__name__)

_IMAGE, _PREVIEW, _CLOSE = range(3)
"""Order in which waiting jobs are taken."""


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
    """One thread that runs the VAE, and a few that compress.

    Finished images go before previews. Each picture is decoded by itself: it must not depend on
    whose pictures are finished at the same moment.
    """

    def __init__(self, on_done: DoneCallback, on_failed: FailedCallback, encoders: int = 2) -> None:
        self._on_done = on_done
        self._on_failed = on_failed
        self._jobs: queue.PriorityQueue[tuple[int, int, DecodeJob | None]] = queue.PriorityQueue()
        self._numbers = itertools.count()
        self._encoders = ThreadPoolExecutor(encoders, thread_name_prefix="argus-encode")
        self._thread = threading.Thread(target=self._run, name="argus-decode", daemon=True)
        self._thread.start()

    def submit(self, job: DecodeJob) -> None:
        """Queue a job; the engine allows one image and one preview a row at a time."""
        self._put(_PREVIEW if job.preview_step else _IMAGE, job)

    def close(self) -> None:
        """Finish what is queued and end the threads."""
        self._put(_CLOSE, None)
        self._thread.join()
        self._encoders.shutdown(wait=True)

    def _put(self, order: int, job: DecodeJob | None) -> None:
        self._jobs.put((order, next(self._numbers), job))

    def _run(self) -> None:
        stream: torch.cuda.Stream | None = None
        while (job := self._jobs.get()[2]) is not None:
            if job.ready is not None and stream is None:
                torch.cuda.set_device(job.latents.device)
                stream = torch.cuda.Stream(job.latents.device)  # type: ignore[no-untyped-call]
            with torch.cuda.stream(stream):
                if job.ready is not None and stream is not None:
                    stream.wait_event(job.ready)
                self._decode(job)

    def _decode(self, job: DecodeJob) -> None:
        if job.row.cancelled or job.row.state.is_final:
            return
        try:
            pixels = _pixels(job)
        except Exception as error:
            log.exception("decoding failed")
            self._on_failed(job, error)
            return
        self._encoders.submit(self._encode, job, pixels)

    def _encode(self, job: DecodeJob, pixels: NDArray[Any]) -> None:
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


def _pixels(job: DecodeJob) -> NDArray[Any]:
    """Return the picture, uint8 (height, width, 3); memory kept by others is freed on demand.

    Raises:
        ArithmeticError: the latents are not finite, which would give a black picture.
    """
    latents = job.latents[None]
    if not bool(torch.isfinite(latents).all()):
        raise ArithmeticError("the latents are not finite")
    try:
        return job.adapter.decode(latents)[0].numpy()
    except torch.cuda.OutOfMemoryError:
        log.warning("decoding ran out of memory; trying again with the cache emptied")
        torch.cuda.empty_cache()
        return job.adapter.decode(latents)[0].numpy()
