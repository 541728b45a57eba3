"""Images asked of the coordinator for one HTTP request, within a bound, as events."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from starlette.requests import Request

from argus.client import AsyncClient, Event, Image, ImageResult, Options, Preview, Warning
from argus.clock import Clock
from argus.errors import CancelledError, OverloadedError, UnavailableError
from argus.gateway.sse import wait_gone
from argus.gateway.wanted import Wanted

T = TypeVar("T")

SHORTEST_RETRY_S = 0.1
REMEMBERED = 64
"""Images whose seconds tell when one of those under way will be done."""


class Room:
    """Bounds the images under way.

    Args:
        limit: most at once.
        clock: where the time comes from.
    """

    def __init__(self, limit: int, clock: Clock) -> None:
        self.limit = limit
        self.taken = 0
        self.closed = False
        self._clock = clock
        self._seconds: deque[float] = deque(maxlen=REMEMBERED)

    @contextmanager
    def enter(self, images: int) -> Iterator[None]:
        """Hold room for so many images.

        Raises:
            OverloadedError: there is none.
            UnavailableError: the gateway is stopping.
        """
        if self.closed:
            raise UnavailableError("the gateway is stopping")
        if self.taken + images > self.limit:
            raise OverloadedError(
                f"{self.taken} images are being made through this gateway, and {images} more "
                f"would be over {self.limit}",
                retry_after_s=self._retry_s(images),
            )
        self.taken += images
        start_s = self._clock.now()
        try:
            yield
        finally:
            self.taken -= images
            self._seconds.append(self._clock.now() - start_s)

    def _retry_s(self, images: int) -> float:
        """Return the seconds until so many are done, at the pace of those before."""
        if not self._seconds:
            return 1.0
        mean_s = sum(self._seconds) / len(self._seconds)
        return max(SHORTEST_RETRY_S, mean_s * images / self.limit)


async def follow(client: AsyncClient, wanted: Wanted, steps: int) -> AsyncGenerator[Event, None]:
    """Iterate over the events of all images; the Image events come in the order of completion.

    Leaving early cancels everything. Warnings are noted in `wanted`.

    Args:
        client: of the coordinator.
        wanted: what is asked for.
        steps: that an image is likely to take, to spread the partial images over.
    """
    events: asyncio.Queue[Event | None] = asyncio.Queue()
    options: Options = {**wanted.options, "request_id": wanted.series.request_id}
    options["seed"] = wanted.series.seed
    if wanted.partial_images:
        options["preview_every"] = max(1, steps // (wanted.partial_images + 1))
    task = asyncio.ensure_future(
        client.images(
            wanted.prompt, wanted.n, concurrency=wanted.n, on_event=events.put_nowait, **options
        )
    )
    task.add_done_callback(lambda _: events.put_nowait(None))
    previews: dict[str, int] = {}
    try:
        while (event := await events.get()) is not None:
            if isinstance(event, Warning):
                wanted.warnings.setdefault(event.request_id, []).append(event.message)
            if isinstance(event, Preview):
                seen = previews[event.request_id] = previews.get(event.request_id, 0) + 1
                if seen > wanted.partial_images:
                    continue
            yield event
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def all_images(events: AsyncGenerator[Event, None], wanted: Wanted) -> list[ImageResult]:
    """Return the finished images, in the order of their seeds."""
    results = [event.result async for event in events if isinstance(event, Image)]
    return wanted.series.in_order(results)


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns; it is cancelled when the client, whose body was read, leaves.

    Raises:
        CancelledError: the client left.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(wait_gone(request.receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise CancelledError("the client left")
    finally:
        for one in (task, gone):
            one.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)
