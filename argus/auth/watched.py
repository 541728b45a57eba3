"""A file of settings that is read again when it changes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from argus.errors import ConfigError

log = logging.getLogger(__name__)

T = TypeVar("T")
Stamp = tuple[int, int, int]

LOOK_AGAIN_S = 1.0
"""How old what is in force may be."""


class WatchedFile(Generic[T]):
    """What a file says now. A change that makes no sense is logged, and what held before holds.

    Args:
        path: the file.
        parse: from its text and its name in messages to what it says; raises ConfigError.
        setting: that names the file.
        now_s: of a monotonic clock.

    Raises:
        ConfigError: it cannot be read, or makes no sense, from the start.
    """

    def __init__(
        self, path: Path, parse: Callable[[str, str], T], setting: str, now_s: float
    ) -> None:
        self._path = path
        self._parse = parse
        self._setting = setting
        self._stamp = self._stamp_now()
        self._value = self._read()
        self._looked_s = now_s

    def current(self, now_s: float) -> T:
        """Return what the file said at most LOOK_AGAIN_S seconds ago."""
        if now_s - self._looked_s >= LOOK_AGAIN_S:
            self._looked_s = now_s
            self._look()
        return self._value

    def _look(self) -> None:
        stamp = self._stamp_now()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._value = self._read()
            log.info("%s: %s was read again", self._setting, self._path)
        except ConfigError as error:
            log.error("%s; what it said before still holds", error)

    def _stamp_now(self) -> Stamp | None:
        """Return what changes with the file; None where there is none."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self) -> T:
        try:
            text = self._path.read_text(encoding="utf-8")
        except OSError as error:
            reason = error.strerror or error
            raise ConfigError(f"{self._setting}: cannot read {self._path}: {reason}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{self._setting}: {self._path} is not in UTF-8") from error
        return self._parse(text, f"{self._setting}: {self._path}")
