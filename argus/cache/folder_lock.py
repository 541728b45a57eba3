"""One process at a time in a folder that it accounts for."""

from __future__ import annotations

import fcntl
from pathlib import Path

from argus.errors import FailedPreconditionError


class FolderLock:
    """Held from the making until `release`, or until the process ends in whatever way.

    Raises:
        FailedPreconditionError: another process holds it.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._file = (folder / "lock").open("w")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise FailedPreconditionError(
                f"{folder}: another process has this cache folder open"
            ) from error

    def release(self) -> None:
        """Let others in."""
        self._file.close()
