"""Processes of a cluster, each started by itself, so that each can be hurt by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import psutil

# -P: the current folder must not become importable in the child.
PYTHON = (sys.executable, "-P")
ARGUS = (*PYTHON, "-m", "argus.cli.main")
BENCH = Path(__file__).resolve().parent


class Daemon:
    """A child process whose standard error goes to a file. End it with `end` or as a context.

    Args:
        name: for messages.
        command: what to run.
        log: file for what it writes to standard error; appended to.
        environment: added to this process's own.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self._command = list(command)
        self._environment = {**os.environ, **(environment or {})}
        self._file: IO[bytes] | None = None
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> Self:
        """Start the process; one that was ended may be started again."""
        self._file = self.log.open("ab")
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._file,
            text=True,
            env=self._environment,
            start_new_session=True,
        )
        return self

    @property
    def process(self) -> subprocess.Popen[str]:
        """The process.

        Raises:
            RuntimeError: it was not started.
        """
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def first_line(self, word: str, timeout_s: float = 300.0) -> str:
        """Return what follows `word` on the first line of standard output.

        Raises:
            RuntimeError: it ended, hung, or said something else.
        """
        watchdog = threading.Timer(timeout_s, self.process.kill)
        watchdog.daemon = True
        watchdog.start()
        assert self.process.stdout is not None
        try:
            line = self.process.stdout.readline()
        finally:
            watchdog.cancel()
        if not line.startswith(f"{word} "):
            self.end()
            raise RuntimeError(f"{self.name} did not start, see {self.log}:\n{self.last_words()}")
        return line.removeprefix(f"{word} ").strip()

    def last_words(self, lines: int = 20) -> str:
        """Return the end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; one that has ended is left alone."""
        if self.alive:
            self.process.send_signal(number)

    def kill(self) -> None:
        """End it as a crash would, and wait."""
        self.signal(signal.SIGKILL)
        self.process.wait()

    def end(self, within_s: float = 60.0) -> int:
        """End it as an operator would, and return its exit status; one that hangs is killed."""
        if self._process is None:
            return 0
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            status = self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        finally:
            if self._process.stdout is not None:
                self._process.stdout.close()
            if self._file is not None:
                self._file.close()
        return status

    def processor_s(self) -> float:
        """Return the processor seconds that it has used."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    def __enter__(self) -> Self:
        return self.start() if self._process is None else self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()


def coordinator(
    log: Path,
    bind: str = "127.0.0.1:0",
    flags: Sequence[str] = (),
    metrics: str = "off",
    environment: dict[str, str] | None = None,
) -> Daemon:
    """Return `argus coordinator`, not started."""
    command = [*ARGUS, "coordinator", "--bind", bind, "--metrics", metrics, *flags]
    return Daemon("coordinator", command, log, environment)


def node(
    name: str,
    server: str,
    log: Path,
    flags: Sequence[str] = (),
    environment: dict[str, str] | None = None,
) -> Daemon:
    """Return a node that can be hurt from outside, see faulty_node.py; not started."""
    # On machines of their own nodes would not take processor time from coordinator and clients.
    command = [*PYTHON, str(BENCH / "faulty_node.py"), "--nice", "10"]
    command += ["--coordinator", server, "--name", name]
    return Daemon(
        name, [*command, *flags], log, {"PYTHONPATH": pythonpath(), **(environment or {})}
    )


def script(file: str, log: Path, *arguments: str) -> Daemon:
    """Return a script of this folder, not started."""
    return Daemon(file, [*PYTHON, str(BENCH / file), *arguments], log, {"PYTHONPATH": pythonpath()})


def pythonpath() -> str:
    """Return a PYTHONPATH that has this folder first."""
    rest = os.environ.get("PYTHONPATH", "")
    return os.pathsep.join([str(BENCH), *([rest] if rest else [])])
