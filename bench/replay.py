"""An open loop against a real coordinator: requests are sent when they are due, come what may."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from argus.client import AsyncClient
from argus.client.result import ImageResult
from argus.errors import ArgusError


@dataclass(frozen=True, slots=True)
class Wanted:
    """One request of a trace.

    Attributes:
        at_s: when it is due, seconds from the start of the trace.
        prompt: what the picture is to show.
        seed: of its noise.
    """

    at_s: float
    prompt: str
    seed: int


@dataclass(frozen=True, slots=True)
class Ended:
    """How a request ended. Times in seconds from the start of the trace.

    Attributes:
        sent_s: when it was sent; later than it was due where the client is too slow.
        end_s: when its picture or its error was there.
        image: the picture; None where there is none.
        error: class of the error in its place; '' with a picture.
    """

    sent_s: float
    end_s: float
    image: ImageResult | None
    error: str = ""


async def replay(
    client: AsyncClient, wanted: Sequence[Wanted], deadline_s: float, steps: int
) -> list[Ended]:
    """Send each request at its time with its deadline; return how each ended, in their order.

    Args:
        client: of the coordinator; one that tries again would hide refusals.
        wanted: the trace.
        deadline_s: of each request, from when it is sent.
        steps: of the reference level.
    """
    began = time.perf_counter()

    def now_s() -> float:
        return time.perf_counter() - began

    async def one(request: Wanted) -> Ended:
        await asyncio.sleep(max(0.0, request.at_s - now_s()))
        sent_s = now_s()
        try:
            image = await client.generate(
                request.prompt, steps=steps, seed=request.seed, deadline_s=deadline_s
            )
        except ArgusError as error:
            return Ended(sent_s, now_s(), None, type(error).__name__)
        return Ended(sent_s, now_s(), image)

    return await asyncio.gather(*(one(request) for request in wanted))
