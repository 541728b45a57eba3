"""Prompts to vectors: what an embedder is, and a wrapper that makes many callers one batch."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from argus.errors import InternalError, OverloadedError, UnavailableError


class Embedder(Protocol):
    """A text encoder."""

    @property
    def name(self) -> str:
        """Name that changes with the weights: vectors of one name can be compared."""
        ...

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        ...

    def embed(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Return one vector of length 1 a prompt, (n, dimension)."""
        ...


@dataclass(frozen=True, slots=True)
class _Waiting:
    prompt: str
    answer: asyncio.Future[NDArray[np.float32]]
    loop: asyncio.AbstractEventLoop


class MicroBatchingEmbedder:
    """Embeds in one worker thread; prompts that come while it works share the next forward.

    Nothing waits for a batch to fill: a lone prompt is embedded at once.

    Args:
        embedder: used by the worker thread only.
        max_batch: prompts in one forward.
        max_waiting: prompts that may wait; beyond it callers are refused.
    """

    def __init__(self, embedder: Embedder, max_batch: int = 16, max_waiting: int = 256) -> None:
        self.name = embedder.name
        self.dimension = embedder.dimension
        self.batches = 0
        self._embedder = embedder
        self._max_batch = max_batch
        self._queue: queue.Queue[_Waiting | None] = queue.Queue(max_waiting)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="embedder", daemon=True)
        self._thread.start()

    async def embed(self, prompt: str) -> NDArray[np.float32]:
        """Return the vector of one prompt, (dimension,), of length 1.

        Raises:
            OverloadedError: too many prompts wait already.
            UnavailableError: it was closed.
            InternalError: the encoder failed on the batch.
        """
        if self._closed:
            raise UnavailableError("the embedder is closed")
        loop = asyncio.get_running_loop()
        waiting = _Waiting(prompt, loop.create_future(), loop)
        try:
            self._queue.put_nowait(waiting)
        except queue.Full:
            raise OverloadedError("too many prompts wait to be embedded", 0.1) from None
        return await waiting.answer

    async def close(self) -> None:
        """Embed what waits and end the thread."""
        self._closed = True
        await asyncio.to_thread(self._queue.put, None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        last = False
        while not last:
            batch, last = self._next_batch()
            if batch:
                self._answer(batch)
        self._refuse_late_comers()

    def _next_batch(self) -> tuple[list[_Waiting], bool]:
        first = self._queue.get()
        if first is None:
            return [], True
        batch = [first]
        while len(batch) < self._max_batch:
            try:
                more = self._queue.get_nowait()
            except queue.Empty:
                break
            if more is None:
                return batch, True
            batch.append(more)
        return batch, False

    def _answer(self, batch: list[_Waiting]) -> None:
        wanted = [waiting for waiting in batch if not waiting.answer.cancelled()]
        if not wanted:
            return
        self.batches += 1
        try:
            vectors = self._embedder.embed([waiting.prompt for waiting in wanted])
        # Whatever a model raises must reach those who wait, and the thread must live on.
        except Exception as error:
            for waiting in wanted:
                _settle(waiting, InternalError(f"the embedder failed: {error}"))
            return
        for waiting, vector in zip(wanted, vectors, strict=True):
            _settle(waiting, vector)

    def _refuse_late_comers(self) -> None:
        while True:
            try:
                late = self._queue.get_nowait()
            except queue.Empty:
                return
            if late is not None:
                _settle(late, UnavailableError("the embedder is closed"))


def _settle(waiting: _Waiting, result: NDArray[np.float32] | Exception) -> None:
    def settle() -> None:
        if waiting.answer.done():
            return
        if isinstance(result, Exception):
            waiting.answer.set_exception(result)
        else:
            waiting.answer.set_result(result)

    # A loop that has ended has nobody left who waits.
    if not waiting.loop.is_closed():
        waiting.loop.call_soon_threadsafe(settle)
