"""Server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

KEEP_ALIVE_S = 15.0
"""A comment is sent after so long a silence, so that proxies do not cut the connection."""
MEDIA_TYPE = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Frame:
    """One event: its name, and what is sent as JSON."""

    name: str
    data: Mapping[str, Any]

    def encode(self) -> bytes:
        """Return it as it goes over the wire."""
        text = json.dumps(self.data, separators=(",", ":"))
        return f"event: {self.name}\ndata: {text}\n\n".encode()


class EventStream(StreamingResponse):
    """Sends frames, and closes their source in every case: sent whole, cut, or never begun."""

    def __init__(self, frames: AsyncGenerator[Frame, None], headers: Mapping[str, str]) -> None:
        self._frames = frames
        super().__init__(_encoded(frames), headers=headers, media_type=MEDIA_TYPE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them until they end or the client leaves."""
        async with aclosing(self._frames):
            await super().__call__(scope, receive, send)


def event_stream(
    frames: AsyncGenerator[Frame, None], headers: Mapping[str, str] | None = None
) -> EventStream:
    """Return the answer that sends `frames`; proxies are told not to hold them back."""
    fixed = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return EventStream(frames, {**fixed, **(headers or {})})


async def _encoded(frames: AsyncIterator[Frame]) -> AsyncGenerator[bytes, None]:
    pending: asyncio.Future[Frame | None] | None = None
    try:
        while True:
            if pending is None:
                pending = asyncio.ensure_future(anext(frames, None))
            done, _ = await asyncio.wait({pending}, timeout=KEEP_ALIVE_S)
            if not done:
                yield b": still here\n\n"
                continue
            frame = pending.result()
            pending = None
            if frame is None:
                return
            yield frame.encode()
    finally:
        if pending is not None:
            pending.cancel()
            await asyncio.gather(pending, return_exceptions=True)
