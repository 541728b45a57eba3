"""An ASGI application served in the running event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn

from argus.errors import ConfigError
from argus.rpc.address import format_address, parse_address

PORTS_TRIED = 64
"""From the default port upwards."""
MAX_HEADER_BYTES = 32 * 2**10
IDLE_S = 15
"""How long a connection without a request is kept."""


def listen(bind: str, setting: str, default: str) -> socket.socket:
    """Return a socket that listens on `HOST:PORT`.

    Where `bind` is empty it is that of `default`, or the next port that is free; a port that was
    asked for is had or refused.

    Raises:
        ConfigError: not an address, or one that cannot be listened on; names `setting`.
    """
    host, port = parse_address(bind or default, setting)
    tries = 1 if bind or not port else PORTS_TRIED
    for number in range(port, port + tries):
        try:
            return _listen_on(host, number)
        except OSError as error:
            failure = error
    reason = os.strerror(failure.errno) if failure.errno and failure.errno > 0 else failure.strerror
    address = format_address(host, port)
    raise ConfigError(f"{setting}: cannot listen on {address}: {str(reason).lower()}") from failure


def _listen_on(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


class WebServer:
    """Serves one application until told to stop.

    h11 parses, since it alone bounds the size of headers. Signals are left to the process.

    Args:
        app: the application.
        max_connections: beyond, requests are answered 503 without reaching it.
        grace_s: seconds that requests under way get at the end.
    """

    def __init__(self, app: Any, *, max_connections: int = 64, grace_s: float = 1.0) -> None:
        config = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=max_connections,
            timeout_keep_alive=IDLE_S,
            timeout_graceful_shutdown=max(1, round(grace_s)),
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        )
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self, listener: socket.socket) -> str:
        """Serve what comes to `listener`, and return its HOST:PORT."""
        host, port = listener.getsockname()[:2]
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))
        began = asyncio.create_task(self._server.began.wait())
        await asyncio.wait({self._task, began}, return_when=asyncio.FIRST_COMPLETED)
        began.cancel()
        if self._task.done():
            await self._task
        return format_address(host, port)

    async def stop(self) -> None:
        """Take no more connections, let requests end within the grace, and close."""
        if self._task is not None:
            self._server.should_exit = True
            await self._task


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.began = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.began.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
