"""A network between two processes that can be cut, delayed and throttled."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

CHUNK_BYTES = 16 * 2**10


@dataclass(slots=True)
class Weather:
    """How a network is just now.

    Attributes:
        delay_s: that every chunk of bytes is late by.
        bytes_per_s: most that passes in each direction; 0: no limit.
        open: set while anything passes; what comes while it is not waits, as if it were lost and
            sent again.
    """

    delay_s: float = 0.0
    bytes_per_s: float = 0.0
    open: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.open.set()


class TcpProxy:
    """Passes connections on to HOST:PORT through some weather; use as an async context manager.

    Args:
        target: where connections lead.

    Attributes:
        weather: may be changed at any time.
        address: HOST:PORT that is to be dialled.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = host, int(port)
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.weather = Weather()
        self.address = ""

    async def __aenter__(self) -> TcpProxy:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def reset(self) -> None:
        """End every connection at once, as a firewall that is restarted would."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _connected(
        self, near_reader: asyncio.StreamReader, near_writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        writers = {near_writer}
        try:
            await self.weather.open.wait()
            far_reader, far_writer = await asyncio.open_connection(*self._target)
            writers.add(far_writer)
            self._writers |= writers
            there = asyncio.create_task(self._pass_on(near_reader, far_writer))
            back = asyncio.create_task(self._pass_on(far_reader, near_writer))
            try:
                await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                there.cancel()
                back.cancel()
                await asyncio.gather(there, back, return_exceptions=True)
        except OSError:
            pass  # nobody listens there now; the one who dialled sees his connection end
        finally:
            self._tasks.discard(task)
            self._writers -= writers
            for writer in writers:
                writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Copy bytes in order: what is read at one moment arrives a delay later."""
        loop = asyncio.get_running_loop()
        late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=64)

        async def read() -> None:
            while data := await reader.read(CHUNK_BYTES):
                await late.put((loop.time() + self.weather.delay_s, data))
            await late.put((0.0, b""))

        reading = asyncio.create_task(read())
        try:
            while True:
                due_s, data = await late.get()
                if not data:
                    return
                await asyncio.sleep(max(0.0, due_s - loop.time()))
                if self.weather.bytes_per_s:
                    await asyncio.sleep(len(data) / self.weather.bytes_per_s)
                await self.weather.open.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            return
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await reading
