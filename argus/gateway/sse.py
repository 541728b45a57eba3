"""Server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

KEEP_ALIVE_S = 15.0
"""A comment is sent after so long a silence, so that proxies do not cut the connection."""
STALLED_S = 60.0
"""A client that takes nothing for so long is given up: it holds room that others wait for."""
MEDIA_TYPE = "text/event-stream"
FIXED = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""The second tells proxies not to hold events back."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One event: its name, and what is sent as JSON."""

    name: str
    data: Mapping[str, Any]

    def encode(self) -> bytes:
        """Return it as it goes over the wire."""
        text = json.dumps(self.data, separators=(",", ":"))
        return f"event: {self.name}\ndata: {text}\n\n".encode()


class EventStream(Response):
    """Sends frames until they end, the client leaves or it takes no more.

    However it ends, the source of the frames is closed before the answer is.
    """

    def __init__(
        self, frames: AsyncGenerator[Frame, None], headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(headers={**FIXED, **(headers or {})}, media_type=MEDIA_TYPE)
        del self.headers["content-length"]
        self._frames = frames
        self._pending: asyncio.Future[Frame | None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the frames."""
        gone = asyncio.ensure_future(wait_gone(receive))
        try:
            start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
            await send(start)
            async with asyncio.timeout(None) as patience:
                while (chunk := await self._next_chunk(gone)) is not None:
                    patience.reschedule(asyncio.get_running_loop().time() + STALLED_S)
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                    patience.reschedule(None)
            if not gone.done():
                await send({"type": "http.response.body", "body": b""})
        except TimeoutError:
            return  # the server closes a connection whose answer is not complete
        finally:
            waited: list[asyncio.Future[Any]] = [gone]
            if self._pending is not None:
                waited.append(self._pending)
            for one in waited:
                one.cancel()
            await asyncio.gather(*waited, return_exceptions=True)
            await self._frames.aclose()

    async def _next_chunk(self, gone: asyncio.Future[None]) -> bytes | None:
        """Return the next frame, or a comment after a silence; None at the end."""
        if self._pending is None:
            self._pending = asyncio.ensure_future(anext(self._frames, None))
        either: set[asyncio.Future[Any]] = {self._pending, gone}
        await asyncio.wait(either, timeout=KEEP_ALIVE_S, return_when=asyncio.FIRST_COMPLETED)
        if gone.done():
            return None
        if not self._pending.done():
            return b": still here\n\n"
        frame, self._pending = self._pending.result(), None
        return None if frame is None else frame.encode()


async def wait_gone(receive: Receive) -> None:
    """Return when the client has left; its body must have been read before."""
    while (await receive())["type"] != "http.disconnect":
        pass
