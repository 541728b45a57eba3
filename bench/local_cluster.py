"""A real cluster on this machine: `argus up` as a child process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self


class LocalCluster:
    """`argus up` with some nodes, started on entry and ended with SIGTERM on exit.

    Args:
        nodes: node daemons to start.
        extra: more arguments for `argus up`.
        ready_timeout_s: how long models may take to load and warm up.
        http: whether a gateway is run, too; it is at `self.http`, as HOST:PORT.
    """

    def __init__(
        self,
        nodes: int,
        extra: Sequence[str] = (),
        ready_timeout_s: float = 300.0,
        http: bool = False,
    ) -> None:
        self.nodes = nodes
        self.address = ""
        self.http = ""
        self._command = [sys.executable, "-P", "-m", "argus.cli.main", "up"]
        self._command += ["--nodes", str(nodes), "--bind", "127.0.0.1:0"]
        self._command += ["--http", "127.0.0.1:0" if http else "off", *extra]
        self._with_http = http
        self._ready_timeout_s = ready_timeout_s
        self._log: list[str] = []

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        try:
            line = self._first_line()
        except BaseException:
            # Ctrl-C while the models load must not leave a cluster behind.
            self.stop()
            raise
        if not line.startswith("ready "):
            self.process.kill()
            self.process.wait()
            raise RuntimeError("the cluster did not start:\n" + self.log)
        self.address = line.split()[1]
        if self._with_http:
            assert self.process.stdout is not None
            self.http = self.process.stdout.readline().split()[1]
        return self

    def _first_line(self) -> str:
        """Return the first line on standard output; empty when the cluster ended or hung."""
        assert self.process.stdout is not None
        watchdog = threading.Timer(self._ready_timeout_s, self.process.kill)
        watchdog.daemon = True
        watchdog.start()
        try:
            return self.process.stdout.readline()
        finally:
            watchdog.cancel()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self, timeout_s: float = 60.0) -> int:
        """End the cluster as an operator would and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def node_pids(self) -> dict[str, int]:
        """Return the process id of every node daemon by its name."""
        import psutil

        pids: dict[str, int] = {}
        for child in psutil.Process(self.process.pid).children(recursive=True):
            command = child.cmdline()
            if "node" in command and "--name" in command:
                pids[command[command.index("--name") + 1]] = child.pid
        return pids

    @property
    def log(self) -> str:
        """What the cluster has written to its standard error so far."""
        return "".join(self._log)

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._log.append(line)
            if os.environ.get("CLUSTER_LOG"):
                sys.stderr.write(line)
