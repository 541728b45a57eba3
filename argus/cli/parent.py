"""How a child process learns that its parent is gone, however it went."""

from __future__ import annotations

import asyncio
import os
import threading
import time

from argus.cli.logs import last_word

STDIN = 0


def end_with_parent(stop: asyncio.Event, grace_s: float) -> None:
    """Set `stop` when stdin closes, and end the process hard if that takes over `grace_s` seconds.

    The parent holds the other end of stdin and never writes to it. The kernel closes that end
    with the parent, even one killed by SIGKILL, on every system that has pipes.
    """
    loop = asyncio.get_running_loop()

    def watch() -> None:
        while os.read(STDIN, 1):
            pass
        try:
            loop.call_soon_threadsafe(stop.set)
        except RuntimeError:
            return  # the loop is closed: the process is ending by itself
        time.sleep(grace_s)
        last_word("the parent is gone and the grace is over")
        os._exit(1)

    threading.Thread(target=watch, name="argus-parent", daemon=True).start()
