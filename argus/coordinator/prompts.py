"""What is known of a request's prompt when its level is chosen."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from argus.control.levels import Ladder
from argus.control.predictor import PromptView, QualityPredictor
from argus.control.reuse import NearState, nearest_similarity
from argus.coordinator.embedding import Embedding
from argus.coordinator.reuse import Reuse
from argus.errors import ArgusError
from argus.types import ImageRequest, VariantInfo

log = logging.getLogger(__name__)

Vector = NDArray[np.float32]
MOST_AT_A_TIME = 32
"""Prompts that are embedded at a time, two batches: those that come meanwhile go without, since
nobody who is to be refused should wait for that."""
LATE_S, LATE_LOOKS = 0.02, 3
"""By which the event loop is late where more comes than this process keeps up with; and how often
in a row, since every process pauses now and then."""


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """A prompt as the predictor sees it, and the cached prompts that the request may start from."""

    prompt: PromptView
    near: tuple[NearState, ...] = ()


class PromptReader:
    """Embeds each prompt at most once, for the cache and for the predictor.

    Nothing here ever fails a request: what cannot be embedded in time is predicted without, and not
    reused. Must be made inside the event loop that uses it.

    Args:
        predictor: whose need of embeddings counts.
        embedding: the embedder, which is loaded for the predictor where the cache does not.
        reuse: the cache; None where it is off.
        wait_s: seconds after which a request goes on without its embedding.
    """

    def __init__(
        self,
        predictor: QualityPredictor,
        embedding: Embedding,
        reuse: Reuse | None,
        wait_s: float,
    ) -> None:
        self._predictor = predictor
        self._embedding = embedding
        self._reuse = reuse
        self._wait_s = wait_s
        self._opening: asyncio.Task[None] | None = None
        self._reading = 0
        self._late_looks = 0
        self.unembedded = 0
        """Prompts that were predicted without their embedding, since too many came."""

    def meet(self, variants: Iterable[VariantInfo]) -> None:
        """Load the embedder in the background once a variant is served that it helps to predict."""
        variants = tuple(variants)
        if self._reuse is not None:
            self._reuse.meet(variants)
        known = self._predictor.variants
        if (
            self._opening is None
            and self._predictor.embedder
            and known & {v.name for v in variants}
        ):
            self._opening = asyncio.create_task(self._open())

    def hear(self, late_s: float) -> None:
        """Take in by how much the event loop is late just now.

        While it is, requests with a deadline are predicted without: of ten times what can be made
        nine are refused whatever is predicted, and an answer in time is worth more to all of them.
        """
        self._late_looks = self._late_looks + 1 if late_s > LATE_S else 0

    async def stop(self) -> None:
        """End what is being loaded."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)

    async def read(
        self, request: ImageRequest, ladder: Ladder, variants: Mapping[str, VariantInfo]
    ) -> Reading:
        """Return what is known of a request's prompt.

        A request with neither deadline nor min_quality does not wait for the predictor's sake:
        whatever is predicted, it is made at its reference level.
        """
        if self._reading >= MOST_AT_A_TIME:
            self.unembedded += self._chooses(request) and self._usable
            return Reading(PromptView(request.prompt))
        self._reading += 1
        try:
            return await self._read(request, ladder, variants)
        finally:
            self._reading -= 1

    async def _read(
        self, request: ImageRequest, ladder: Ladder, variants: Mapping[str, VariantInfo]
    ) -> Reading:
        wanted = self._chooses(request) and self._usable
        hurried = request.deadline_s is not None and self._late_looks >= LATE_LOOKS
        needed = wanted and not hurried
        looks = self._reuse is not None and self._reuse.looks_up(request)
        vector = self._begin(request.prompt) if needed or looks else None
        near: tuple[NearState, ...] = ()
        if self._reuse is not None and looks:
            near = await self._reuse.look_up(request, ladder, variants, vector)
        embedding = None if vector is None else await self._end(vector, wait=needed)
        self.unembedded += wanted and hurried and embedding is None
        view = PromptView(
            request.prompt, embedding if self._usable else None, nearest_similarity(near)
        )
        return Reading(view, near)

    @staticmethod
    def _chooses(request: ImageRequest) -> bool:
        """Whether the level depends on what is predicted."""
        return request.deadline_s is not None or request.min_quality is not None

    @property
    def _usable(self) -> bool:
        """Whether the embedder is there, and the one whose vectors the predictor knows."""
        return bool(self._predictor.embedder) and self._embedding.name == self._predictor.embedder

    def _begin(self, prompt: str) -> asyncio.Task[Vector]:
        return asyncio.create_task(self._embedding.embed(prompt))

    async def _end(self, vector: asyncio.Task[Vector], wait: bool) -> Vector | None:
        """Return the vector if it comes in time, or is there already where nobody would wait."""
        try:
            if wait:
                async with asyncio.timeout(self._wait_s):
                    return await vector
            if not vector.done():
                vector.cancel()
            return await vector
        except asyncio.CancelledError:
            # The look-up gave it up, or nobody needs it; a request that is itself ended says so.
            if (task := asyncio.current_task()) is not None and task.cancelling():
                vector.cancel()
                raise
        except TimeoutError:
            log.warning("a prompt was not embedded within %g s", self._wait_s)
        except ArgusError as error:
            log.warning("a prompt was not embedded: %s", error)
        except Exception:
            log.exception("a prompt was not embedded")
        return None

    async def _open(self) -> None:
        try:
            embedder = await self._embedding.open()
        except (ArgusError, OSError) as error:
            log.error("levels are predicted without embeddings: %s", error)
            return
        except Exception:
            log.exception("levels are predicted without embeddings")
            return
        if embedder.name != self._predictor.embedder:
            log.warning(
                "levels are predicted without embeddings: the predictor knows %s, not %s",
                self._predictor.embedder,
                embedder.name,
            )
