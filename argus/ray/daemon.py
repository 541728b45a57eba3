"""The actor: its process is a node daemon, and dies with it, so that Ray starts both again."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from argus.config import LogConfig
from argus.errors import ArgusError
from argus.node.daemon import serve
from argus.ray.parcel import Parcel
from argus.rpc.loop import loop_factory

LEFT = ""
"""How a daemon ended that was drained, or told to end."""
LAST_WORDS_S = 3.0
"""How long a daemon that failed can still be asked why; also what keeps one that fails at once
from being started again without a pause."""

log = logging.getLogger(__name__)

Prepare = Callable[[LogConfig, str], None]
"""Sets up logging, given its settings and the daemon's name."""


class NodeDaemon:
    """A node daemon in a thread of an actor; the methods, called in other threads, only ask.

    Args:
        parcel: the daemon's settings.
        prepare: called in the daemon's process.
    """

    def __init__(self, parcel: Parcel, prepare: Prepare) -> None:
        self._parcel = parcel
        self._prepare = prepare
        self._loop = loop_factory()()
        self._stop = asyncio.Event()
        self._joined = threading.Event()
        self._ended = threading.Event()
        self._reason = LEFT
        threading.Thread(target=self._live, name="argus-node").start()

    def where(self) -> str:
        """Return host and process, which change whenever the daemon is started again."""
        return f"{platform.node()}, process {os.getpid()}"

    def joined(self) -> str:
        """Wait until the coordinator took the daemon in, or it ended; return why it did not."""
        self._joined.wait()
        return self._reason

    def ended(self) -> str:
        """Wait until the daemon has ended and return why, or LEFT."""
        self._ended.wait()
        return self._reason

    def drain(self) -> None:
        """Let the daemon finish its rows and leave."""
        log.info("asked to leave")
        with suppress(RuntimeError):  # its loop is closed: it has ended by itself
            self._loop.call_soon_threadsafe(self._stop.set)

    def _live(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(_serve(self._parcel, self._prepare, self._stop, self._joined.set))
        except ArgusError as error:
            log.error("%s", error)
            self._reason = str(error)
        except Exception as error:
            log.exception("a bug ended the daemon")
            self._reason = f"internal error: {type(error).__name__}: {error}"
        self._ended.set()
        self._joined.set()
        if self._reason != LEFT:
            time.sleep(LAST_WORDS_S)
            os._exit(1)


async def _serve(
    parcel: Parcel, prepare: Prepare, stop: asyncio.Event, on_joined: Callable[[], None]
) -> None:
    """Run the daemon. No method: an actor with one coroutine would run all methods in turn."""
    config = parcel.unpack()
    prepare(config.log, config.node.name)
    await serve(config, stop, on_joined)
