"""The text encoder of the settings: loaded once, and shared by all who compare prompts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from argus.cache.embedder import Embedder, MicroBatchingEmbedder
from argus.errors import UnavailableError

log = logging.getLogger(__name__)


class Embedding:
    """An embedder that is loaded when the first asks for it. Used inside one event loop.

    Its thread starts with the first prompt: who could not make use of it leaves none behind.

    Args:
        load: returns it; takes seconds, and may raise.
    """

    def __init__(self, load: Callable[[], Embedder]) -> None:
        self._load = load
        self._opening: asyncio.Task[Embedder] | None = None
        self._embedder: Embedder | None = None
        self._batching: MicroBatchingEmbedder | None = None
        self._closed = False

    @property
    def name(self) -> str:
        """Name of the embedder; empty while there is none."""
        return self._embedder.name if self._embedder else ""

    async def open(self) -> Embedder:
        """Return the embedder once it is loaded, to be asked for its name and dimension alone.

        What loading raises is passed on to everyone.
        """
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
        # Who waits may be cancelled; the others still want it.
        return await asyncio.shield(self._opening)

    async def embed(self, prompt: str) -> NDArray[np.float32]:
        """Return the vector of one prompt, (dimension,), of length 1.

        Raises:
            UnavailableError: it is not loaded, or closed.
            ArgusError: see MicroBatchingEmbedder.
        """
        if self._embedder is None or self._closed:
            raise UnavailableError("the embedder is not loaded, or closed")
        if self._batching is None:
            self._batching = MicroBatchingEmbedder(self._embedder)
        return await self._batching.embed(prompt)

    async def close(self) -> None:
        """Embed what waits and end the thread."""
        self._closed = True
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        if self._batching is not None:
            await self._batching.close()

    async def _open(self) -> Embedder:
        self._embedder = await asyncio.to_thread(self._load)
        log.info("prompts are compared by %s", self._embedder.name)
        return self._embedder
