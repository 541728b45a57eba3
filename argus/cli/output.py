"""Where the pictures of `argus generate` go."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from argus.client import ImageResult
from argus.client.result import EXTENSIONS
from argus.errors import InvalidArgumentError
from argus.rpc.convert import parse_image_format
from argus.types import ImageFormat

STDOUT = "-"
FLAG = "-o"


@dataclass(frozen=True, slots=True)
class Output:
    """A destination that was found writable; `target` is a file, `-`, or empty for a made name."""

    target: str
    format: ImageFormat
    count: int

    def write(self, result: ImageResult, position: int) -> str:
        """Write one picture and return the name of its file, `-` for stdout.

        Raises:
            InvalidArgumentError: the file cannot be written after all.
        """
        if self.target == STDOUT:
            sys.stdout.buffer.write(result.data)
            sys.stdout.buffer.flush()
            return STDOUT
        path = self._path(result, position)
        try:
            path.write_bytes(result.data)
        except OSError as error:
            raise _refusal(path, error.strerror or str(error)) from error
        return str(path)

    def _path(self, result: ImageResult, position: int) -> Path:
        if not self.target:
            return Path(f"argus-{result.seed}.{self.format.value}")
        path = Path(self.target)
        return path if self.count == 1 else path.with_stem(f"{path.stem}-{position + 1}")


def choose_output(target: str, format_name: str | None, count: int, json: bool) -> Output:
    """Return the destination, checked before anything is asked of the server.

    Args:
        target: the value of `-o`; empty: a name made of the seed, in the current folder.
        format_name: the value of `--format`; None: by the extension, PNG without one.
        count: number of pictures; above 1 files are numbered.
        json: whether stdout is taken by JSON.

    Raises:
        InvalidArgumentError: the destination or the format cannot be used.
    """
    if target == STDOUT and (count > 1 or json):
        raise InvalidArgumentError(FLAG, "stdout takes one picture and no JSON")
    if target != STDOUT:
        _check_writable(Path(target or "."), made_name=not target)
    chosen = parse_image_format(format_name) if format_name else _format_of(target)
    return Output(target, chosen, count)


def _format_of(target: str) -> ImageFormat:
    suffix = Path(target).suffix.lower()
    if target in {"", STDOUT} or not suffix:
        return ImageFormat.PNG
    if suffix not in EXTENSIONS:
        raise InvalidArgumentError(
            FLAG, f"the extension must be one of {', '.join(EXTENSIONS)}, not {suffix!r}"
        )
    return EXTENSIONS[suffix]


def _check_writable(path: Path, made_name: bool) -> None:
    folder = path if made_name else path.parent
    if path.is_dir() and not made_name:
        raise _refusal(path, "it is a folder")
    if not folder.is_dir():
        raise _refusal(path, f"there is no folder {str(folder)!r}")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise _refusal(path, "permission denied")


def _refusal(path: Path, reason: str) -> InvalidArgumentError:
    return InvalidArgumentError(FLAG, f"cannot write {str(path)!r}: {reason}")
