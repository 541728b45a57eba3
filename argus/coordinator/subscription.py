"""The events of one request on their way to one client."""

from __future__ import annotations

import asyncio
from collections import deque

from argus.errors import ArgusError
from argus.v1 import image_pb2

DEFAULT_LIMIT = 64
_PROGRESS = frozenset({"step", "preview"})


class Subscription:
    """A bounded queue of events with an end that is never lost.

    A reader slower than its events loses the oldest progress (steps and previews) first; how the
    request ended, an image or an error, always arrives. Iterate to receive; an error is raised.

    Args:
        request_id: the request followed.
        limit: events held for a slow reader.
    """

    def __init__(self, request_id: str, limit: int = DEFAULT_LIMIT) -> None:
        self.request_id = request_id
        self._limit = limit
        self._events: deque[image_pb2.GenerateResponse] = deque()
        self._end: image_pb2.GenerateResponse | ArgusError | None = None
        self._delivered = False
        self._news = asyncio.Event()

    def push(self, event: image_pb2.GenerateResponse) -> None:
        """Add an event that is not the last."""
        if len(self._events) >= self._limit:
            self._drop_one()
        self._events.append(event)
        self._news.set()

    def finish(self, end: image_pb2.GenerateResponse | ArgusError) -> None:
        """Set how the request ended."""
        self._end = end
        self._news.set()

    def take_waiting(self) -> image_pb2.GenerateResponse | None:
        """Return the next event if it is there already; None also before an error."""
        if self._events:
            return self._events.popleft()
        if self._delivered or self._end is None or isinstance(self._end, ArgusError):
            return None
        self._delivered = True
        return self._end

    def _drop_one(self) -> None:
        kinds = [event.WhichOneof("event") in _PROGRESS for event in self._events]
        del self._events[kinds.index(True) if any(kinds) else 0]

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> image_pb2.GenerateResponse:
        while True:
            if self._events:
                return self._events.popleft()
            if self._delivered:
                raise StopAsyncIteration
            if self._end is not None:
                self._delivered = True
                if isinstance(self._end, ArgusError):
                    raise self._end
                return self._end
            self._news.clear()
            await self._news.wait()
