"""Where the previews of `argus generate` go."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from argus.cli.output import refusal
from argus.client import Event, Preview

FLAG = "--preview-dir"


@dataclass(frozen=True, slots=True)
class Previews:
    """Previews wanted or not; called from several threads."""

    folder: Path | None
    """Found writable; None when no previews were asked for."""

    def keep(self, event: Event) -> None:
        """Write the event's picture as ID-STEP.jpg, STEP in four digits, if it is a preview.

        A repeat replaces it.

        Raises:
            InvalidArgumentError: the file cannot be written after all.
        """
        if self.folder is None or not isinstance(event, Preview):
            return
        path = self.folder / f"{event.request_id}-{event.step:04d}.jpg"
        try:
            path.write_bytes(event.data)
        except OSError as error:
            raise refusal(path, error.strerror or str(error), FLAG) from error


def choose_previews(every: int, folder: str) -> Previews:
    """Return where previews go, checked before anything is asked of the server.

    Args:
        every: the value of `--preview-every`; 0: none.
        folder: the value of `--preview-dir`.

    Raises:
        InvalidArgumentError: the folder cannot be used.
    """
    if not every:
        return Previews(None)
    path = Path(folder)
    if not path.is_dir():
        raise refusal(path, "there is no such folder", FLAG)
    if not os.access(path, os.W_OK):
        raise refusal(path, "permission denied", FLAG)
    return Previews(path)
