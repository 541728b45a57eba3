"""Folders that are written to, and limits of the process."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

from argus.config import CacheConfig, QualityConfig
from argus.doctor.findings import Finding, failed, good, size, warning

FEWEST_FILES = 1024
"""Connections, files of states and mapped weights of a busy daemon stay far below."""


def check_places(cache: CacheConfig, quality: QualityConfig) -> Iterator[Finding]:
    """Check the folders that the settings name."""
    if cache.mode == "off":
        yield good("cache", "off")
    elif not cache.folder:
        yield good("cache", f"in memory, {size(cache.memory_bytes)} on each node")
    else:
        yield check_folder("cache", "cache.folder", Path(cache.folder), cache.disk_bytes)
    if cache.mode != "off" and cache.server:
        yield check_server(cache.server)
    if quality.live_folder:
        yield check_folder("quality", "quality.live_folder", Path(quality.live_folder), 0)


def check_folder(check: str, setting: str, folder: Path, budget_bytes: int) -> Finding:
    """Return whether a folder can be written, and whether so many bytes have room there.

    Args:
        check: name of the check.
        setting: that names the folder.
        folder: it is made when it is first used.
        budget_bytes: that may be held in it, what it holds already included.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        return failed(check, f"{setting} {folder}: {existing} is no folder", f"correct {setting}")
    if not os.access(existing, os.W_OK | os.X_OK):
        return failed(
            check, f"{setting} {folder}: {existing} cannot be written", "let this user write there"
        )
    free = shutil.disk_usage(existing).free
    held = sum(_bytes_of(file) for file in folder.rglob("*")) if folder.is_dir() else 0
    said = f"{setting} {folder}: {size(held)} held, {size(free)} of disk free"
    facts = {"folder": str(folder), "held_bytes": held, "free_bytes": free}
    if held + free < budget_bytes:
        said += f", of {size(budget_bytes)} that may be held"
        remedy = "make room, or lower cache.disk_bytes"
        return warning(check, said, remedy, budget_bytes=budget_bytes, **facts)
    return good(check, said, **facts)


def _bytes_of(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0  # evicted while we looked


def check_server(dsn: str) -> Finding:
    """Return whether the PostgreSQL that states are shared through answers and has pgvector."""
    try:
        import psycopg
    except ImportError:
        remedy = "pip install 'argus-serve[postgres]'"
        return failed("cache", "cache.server is set, and psycopg is missing", remedy)
    try:
        with psycopg.connect(dsn, connect_timeout=5, autocommit=True) as connection:
            row = connection.execute(
                "SELECT current_setting('server_version'), (SELECT default_version FROM "
                "pg_available_extensions WHERE name = 'vector')"
            ).fetchone()
    except psycopg.Error as error:
        # The connection string may hold a password; what the library says of it does not.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return failed("cache", f"cache.server: {reason}", "start it, or correct cache.server")
    postgres, vector = row or ("unknown", None)
    if vector is None:
        return failed(
            "cache", f"cache.server: PostgreSQL {postgres} without pgvector", "install pgvector"
        )
    said = f"cache.server: PostgreSQL {postgres} with pgvector {vector}"
    return good("cache", said, postgres=postgres, pgvector=vector)


def check_limits() -> Finding:
    """Return how many files a daemon may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    said = "any number of" if soft == resource.RLIM_INFINITY else f"{soft:,}"
    said = f"{said} files may be open at once"
    if soft != resource.RLIM_INFINITY and soft < FEWEST_FILES:
        remedy = f"raise it to {FEWEST_FILES:,} or more: ulimit -n, LimitNOFILE of systemd"
        return warning("limits", said, remedy, open_files=soft)
    return good("limits", said, open_files=soft)
