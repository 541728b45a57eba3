"""Sets of prompts: read from files, split so that what is learned is judged on other prompts."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from argus.cache.keys import normalise_prompt
from argus.errors import ConfigError
from argus.types import MAX_PROMPT_CHARS

TEXT, CSV, PARQUET = ".txt", ".csv", ".parquet"
COLUMNS = ("prompt_id", "prompt", "kind", "split", "group")


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt of a set.

    Attributes:
        id: unique in the set.
        text: what is asked for.
        kind: stratum that tables are broken down by; may be empty.
        split: train, calibration or test; empty where none was chosen.
        group: what must not be divided between splits; empty: the prompt alone.
    """

    id: str
    text: str
    kind: str = ""
    split: str = ""
    group: str = ""


def prompt_id(text: str) -> str:
    """Return the id of a prompt that was given none."""
    return blake2b(normalise_prompt(text).encode(), digest_size=6).hexdigest()


def read_prompts(path: Path) -> tuple[Prompt, ...]:
    """Return the prompts in a file.

    A text file has one a line; empty lines are left out. A CSV or Parquet file has a column
    `prompt` and may have `prompt_id`, `kind`, `split` and `group`.

    Raises:
        ConfigError: names the file and the line or column that is wrong.
    """
    readers = {TEXT: _read_text, CSV: _read_csv, PARQUET: _read_parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ConfigError(f"{path}: must end in {', '.join(readers)}")
    try:
        rows = list(reader(path))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8: {error}") from error
    if not rows:
        raise ConfigError(f"{path}: holds no prompt")
    return _checked(path, rows)


def write_prompts(path: Path, prompts: Iterable[Prompt]) -> None:
    """Write a set as CSV, with all its columns."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for prompt in prompts:
            writer.writerow((prompt.id, prompt.text, prompt.kind, prompt.split, prompt.group))


Row = tuple[str, dict[str, str]]
"""Where a prompt stands, and its columns."""


def _read_text(path: Path) -> Iterator[Row]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            yield f"line {number}", {"prompt": line.strip()}


def _read_csv(path: Path) -> Iterator[Row]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        _check_columns(path, reader.fieldnames or ())
        for row in reader:
            yield f"line {reader.line_num}", {k: row[k] or "" for k in COLUMNS if k in row}


def _read_parquet(path: Path) -> Iterator[Row]:
    # An extra that only profiles need.
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.ArrowException as error:
        raise ConfigError(f"{path}: not a Parquet file: {error}") from error
    _check_columns(path, table.column_names)
    for number, row in enumerate(table.to_pylist(), start=1):
        yield f"row {number}", {k: str(row[k] or "") for k in COLUMNS if k in row}


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    if "prompt" not in columns:
        raise ConfigError(f"{path}: has no column prompt, only {', '.join(columns) or 'none'}")


def _checked(path: Path, rows: Sequence[Row]) -> tuple[Prompt, ...]:
    seen: dict[str, str] = {}
    prompts = []
    for where, row in rows:
        text = row["prompt"]
        if not text.strip():
            raise ConfigError(f"{path}: {where}: prompt: is empty")
        if len(text) > MAX_PROMPT_CHARS:
            raise ConfigError(
                f"{path}: {where}: prompt: {len(text):,} characters; at most {MAX_PROMPT_CHARS:,}"
            )
        name = row.get("prompt_id", "") or prompt_id(text)
        if name in seen:
            raise ConfigError(f"{path}: {where}: prompt_id: {name!r} is that of {seen[name]}, too")
        split = row.get("split", "")
        if split not in ("", "train", "calibration", "test"):
            raise ConfigError(
                f"{path}: {where}: split: must be train, calibration or test, not {split!r}"
            )
        seen[name] = where
        prompts.append(Prompt(name, text, row.get("kind", ""), split, row.get("group", "")))
    return tuple(prompts)
