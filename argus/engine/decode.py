"""The decode queue: latents to pixels to bytes, apart from denoising."""

from __future__ import annotations

import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray

from argus.diffusion.adapter import PipelineAdapter
from argus.engine.images import encode_image, encode_preview
from argus.engine.row import Row
from argus.engine.stats import DecodeStats
from argus.histogram import SECONDS, Histogram

log = logging.getLogger(__name__)

_IMAGE, _PREVIEW, _CLOSE = range(3)
"""Order in which waiting jobs are taken."""


@dataclass(frozen=True, slots=True)
class DecodeJob:
    """Latents (channels, height, width) of a row that no step will touch any more.

    `preview_step` is the step a preview was taken at, or 0 for the finished image. `batch` is how
    many of its kind may be decoded at once. `ready` tells the decode stream when the copy is
    complete on CUDA. `release` is called when the job no longer needs its adapter.
    """

    row: Row
    adapter: PipelineAdapter
    latents: torch.Tensor
    preview_step: int
    batch: int
    ready: torch.cuda.Event | None
    release: Callable[[], None]

    def goes_with(self, other: DecodeJob) -> bool:
        """Whether the two may be decoded in one call."""
        return (
            self.preview_step == other.preview_step == 0
            and self.adapter is other.adapter
            and self.latents.shape == other.latents.shape
        )


DoneCallback = Callable[[DecodeJob, bytes], None]
FailedCallback = Callable[[DecodeJob, Exception], None]


class DecodeQueue:
    """One thread that runs the VAE, and a few that compress.

    Finished images go before previews, and together where `argus.engine.edges` found that they may.
    """

    def __init__(self, on_done: DoneCallback, on_failed: FailedCallback, encoders: int = 2) -> None:
        self._on_done = on_done
        self._on_failed = on_failed
        self._jobs: queue.PriorityQueue[tuple[int, int, DecodeJob | None]] = queue.PriorityQueue()
        self._numbers = itertools.count()
        self._encoders = ThreadPoolExecutor(encoders, thread_name_prefix="argus-encode")
        self._counting = threading.Lock()
        self._encoding = 0
        self._decode_s, self._encode_s = Histogram(SECONDS), Histogram(SECONDS)
        self._thread = threading.Thread(target=self._run, name="argus-decode", daemon=True)
        self._thread.start()

    def submit(self, job: DecodeJob) -> None:
        """Queue a job; the engine allows one image and one preview a row at a time."""
        self._put(_PREVIEW if job.preview_step else _IMAGE, job)

    @property
    def alive(self) -> bool:
        """Whether the decode thread runs."""
        return self._thread.is_alive()

    def stats(self) -> DecodeStats:
        """Return what waits, and what calls have taken."""
        with self._counting:
            return DecodeStats(
                self._jobs.qsize(),
                self._encoding,
                self._decode_s.spread(),
                self._encode_s.spread(),
            )

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
            jobs = self._with_its_kind(job)
            try:
                stream = self._decode_on_stream(jobs, stream)
            except Exception as error:
                log.exception("decoding failed")
                for one in jobs:
                    self._on_failed(one, error)
            finally:
                for one in jobs:
                    one.release()

    def _decode_on_stream(
        self, jobs: Sequence[DecodeJob], stream: torch.cuda.Stream | None
    ) -> torch.cuda.Stream | None:
        """Decode, on CUDA behind the steps that made the latents; return the stream used."""
        device = jobs[0].latents.device
        if device.type == "cuda" and stream is None:
            torch.cuda.set_device(device)
            stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        with torch.cuda.stream(stream):
            for job in jobs:
                if job.ready is not None and stream is not None:
                    stream.wait_event(job.ready)
                    # The copy was made on another stream; its memory must outlive this use.
                    job.latents.record_stream(stream)
            self._decode(jobs)
        return stream

    def _with_its_kind(self, first: DecodeJob) -> list[DecodeJob]:
        """Return the job with those waiting that may be decoded with it, in order."""
        jobs = [first]
        while len(jobs) < first.batch:
            try:
                order, number, job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None or not job.goes_with(first):
                self._jobs.put((order, number, job))
                break
            jobs.append(job)
        return jobs

    def _decode(self, jobs: Sequence[DecodeJob]) -> None:
        live = [job for job in jobs if not job.row.cancelled and not job.row.state.is_final]
        finite = []
        for job in live:
            if bool(torch.isfinite(job.latents).all()):
                finite.append(job)
            else:
                self._on_failed(job, ArithmeticError("the latents are not finite"))
        if not finite:
            return
        start_s = time.perf_counter()
        try:
            pictures = _pixels(finite)
        except Exception as error:
            if len(finite) > 1:
                # One of them may be to blame; the others need not share its end.
                for job in finite:
                    self._decode([job])
                return
            log.exception("decoding failed")
            self._on_failed(finite[0], error)
            return
        with self._counting:
            self._decode_s.observe(time.perf_counter() - start_s)
            self._encoding += len(finite)
        for job, picture in zip(finite, pictures, strict=True):
            self._encoders.submit(self._encode, job, picture)

    def _encode(self, job: DecodeJob, pixels: NDArray[Any]) -> None:
        start_s = time.perf_counter()
        try:
            if job.preview_step:
                wanted = job.row.request
                data = encode_preview(pixels, wanted.width, wanted.height)
            else:
                data = encode_image(pixels, job.row.request.format)
            with self._counting:
                self._encode_s.observe(time.perf_counter() - start_s)
            self._on_done(job, data)
        except Exception as error:
            log.exception("an image could not be finished")
            self._on_failed(job, error)
        finally:
            with self._counting:
                self._encoding -= 1


def _pixels(jobs: Sequence[DecodeJob]) -> list[NDArray[Any]]:
    """Return the pictures, each uint8 (height, width, 3).

    Where memory is short, what others keep is freed first, then the picture is decoded in tiles.

    Raises:
        ArithmeticError: a picture is not finite, as when a VAE overflows.
    """
    adapter = jobs[0].adapter
    if jobs[0].preview_step:
        return [adapter.preview(jobs[0].latents).numpy()]
    latents = torch.stack([job.latents for job in jobs])
    try:
        return list(adapter.decode(latents).numpy())
    except torch.cuda.OutOfMemoryError:
        log.warning("decoding ran out of memory; trying again in tiles")
    torch.cuda.empty_cache()
    return list(adapter.decode(latents, tiled=True).numpy())
