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
            raise refusal(path, error.strerror or str(error)) from error
        return str(path)

    def _path(self, result: ImageResult, position: int) -> Path:
        if not self.target:
            return Path(f"argus-{result.seed}.{self.format.value}")
        return self.numbered(position) if self.count > 1 else Path(self.target)

    def numbered(self, position: int) -> Path:
        """Return the file of one of several pictures; `target` must name a file."""
        path = Path(self.target)
        return path.with_stem(f"{path.stem}-{position + 1}")


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
    output = Output(target, _choose_format(target, format_name), count)
    if target != STDOUT:
        _check_writable(output)
    return output


def _choose_format(target: str, format_name: str | None) -> ImageFormat:
    suffix = "" if target in {"", STDOUT} else Path(target).suffix.lower()
    named = EXTENSIONS.get(suffix)
    if format_name is not None:
        chosen = parse_image_format(format_name)
        if named not in {None, chosen}:
            raise InvalidArgumentError(
                FLAG, f"the extension of {target!r} does not fit --format {chosen.value}"
            )
        return chosen
    if suffix and named is None:
        raise InvalidArgumentError(
            FLAG, f"the extension must be one of {', '.join(EXTENSIONS)}, not {suffix!r}"
        )
    return named or ImageFormat.PNG


def _check_writable(output: Output) -> None:
    """Raise where writing would fail; of numbered files the last has the longest name."""
    path = Path(output.target)
    try:
        if not output.target:
            _check_access(path, path, FLAG)
            return
        check_file(path)
        if output.count > 1:
            check_file(output.numbered(output.count - 1))
    except OSError as error:
        raise refusal(path, error.strerror or str(error)) from error


def check_file(path: Path, flag: str = FLAG) -> None:
    """Raise InvalidArgumentError, naming `flag`, where a file could not be written."""
    if path.is_dir():
        raise refusal(path, "it is a folder", flag)
    if not path.parent.is_dir():
        raise refusal(path, f"there is no folder {str(path.parent)!r}", flag)
    _check_access(path, path if path.exists() else path.parent, flag)


def _check_access(path: Path, writable: Path, flag: str) -> None:
    if not os.access(writable, os.W_OK):
        raise refusal(path, "permission denied", flag)


def refusal(path: Path, reason: str, flag: str = FLAG) -> InvalidArgumentError:
    """Return the error for a path, given by `flag`, that cannot be written."""
    return InvalidArgumentError(flag, f"cannot write {str(path)!r}: {reason}")
