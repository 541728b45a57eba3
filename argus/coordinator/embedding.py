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

    Args:
        load: returns it; takes seconds, and may raise.
    """

    def __init__(self, load: Callable[[], Embedder]) -> None:
        self._load = load
        self._opening: asyncio.Task[MicroBatchingEmbedder] | None = None
        self._embedder: MicroBatchingEmbedder | None = None

    @property
    def name(self) -> str:
        """Name of the embedder; empty while there is none."""
        return self._embedder.name if self._embedder else ""

    async def open(self) -> MicroBatchingEmbedder:
        """Return the embedder once it is loaded; what loading raises is passed on to everyone."""
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
        if self._embedder is None:
            raise UnavailableError("the embedder is not loaded")
        return await self._embedder.embed(prompt)

    async def close(self) -> None:
        """Embed what waits and end the thread."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        if self._embedder is not None:
            await self._embedder.close()

    async def _open(self) -> MicroBatchingEmbedder:
        embedder = await asyncio.to_thread(self._load)
        self._embedder = MicroBatchingEmbedder(embedder)
        log.info("prompts are compared by %s", embedder.name)
        return self._embedder
