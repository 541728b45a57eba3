"""Child processes: started, watched, started again, ended in order."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass, field

from argus.errors import UnavailableError

# -P: the current folder must not become importable in the child.
COMMAND = (sys.executable, "-P", "-m", "argus.cli.main")
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0
SETTLED_S = 60.0
"""A child that lived this long starts again without having its earlier deaths counted."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Child:
    """One `argus` command in a process of its own.

    It has its own session, so that Ctrl-C at the terminal reaches only the parent, which then
    ends its children in order; and it watches its stdin, so that it ends when the parent dies.
    It writes to the parent's stderr, its stdout included unless it announces something there.

    Attributes:
        name: for messages.
        arguments: of the `argus` command.
        announces: whether its stdout is read for `first_line`.
        may_leave: whether it may end by itself, with code 0.
    """

    name: str
    arguments: tuple[str, ...]
    announces: bool = False
    may_leave: bool = False
    _process: Process | None = field(default=None, init=False)

    async def start(self) -> None:
        """Start the process."""
        self._process = await asyncio.create_subprocess_exec(
            *(*COMMAND, *self.arguments, "--watch-stdin"),
            stdin=PIPE,
            stdout=PIPE if self.announces else sys.stderr,
            start_new_session=True,
        )

    async def first_line(self, word: str) -> str:
        """Return what follows `word` on the first line of the child's stdout.

        Raises:
            UnavailableError: it ended, or said something else.
        """
        output = self._running().stdout
        line = "" if output is None else (await output.readline()).decode().strip()
        if not line.startswith(f"{word} "):
            raise UnavailableError(f"{self.name} {await self.ended()} before it was ready")
        return line.removeprefix(f"{word} ")

    async def ended(self) -> str:
        """Wait until the process ends and return how it did."""
        code = await self._running().wait()
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended with code {code}"

    async def keep_alive(self) -> None:
        """Start the process again whenever it ends, waiting longer each time it dies young.

        Returns when it has left of its own accord: a drained node must not come back.
        """
        wait_s = FIRST_WAIT_S
        while True:
            started_s = time.monotonic()
            how = await self.ended()
            if self.may_leave and self._running().returncode == 0:
                log.info("%s has left", self.name)
                return
            if time.monotonic() - started_s > SETTLED_S:
                wait_s = FIRST_WAIT_S
            log.error("%s %s; starting it again in %g s", self.name, how, wait_s)
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)
            await self.start()

    async def end(self, within_s: float) -> None:
        """Ask the process to end and wait; kill it where that takes over `within_s` seconds."""
        if self._process is None or self._process.returncode is not None:
            return
        try:
            self._process.terminate()
            await asyncio.wait_for(self._process.wait(), within_s)
        except TimeoutError:
            log.error("%s did not end within %g s and is killed", self.name, within_s)
        finally:
            self.kill()
            await self._process.wait()

    def kill(self) -> None:
        """Kill the process if it runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    def _running(self) -> Process:
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process
