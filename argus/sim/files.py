"""The files of a simulated run: arrivals.csv, prompts.csv, out.csv. docs/simulator.md has them."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from argus.errors import ConfigError
from argus.sim.outcome import Outcome, Status
from argus.sim.types import PromptTable, Trace

ARRIVALS = ["arrival_s", "prompt_id"]
OUT = [
    *("prompt_id", "arrival_s", "start_s", "finish_s", "level", "node", "deadline_s", "quality"),
    "status",
]
MAX_QUALITY = 2.0
"""Relative quality can be above 1: fewer steps are sometimes better."""

Line = tuple[int, list[str]]
"""Its number in the file, and its cells."""


class Cells:
    """The cells of one line of a CSV file, read by name; errors say file, line and column.

    Args:
        path: of the file.
        line: its number, from 1.
        header: names of the columns.
        cells: as many.

    Raises:
        ConfigError: there are fewer or more.
    """

    def __init__(self, path: Path, line: int, header: Sequence[str], cells: Sequence[str]) -> None:
        self._where = f"{path}:{line}"
        if len(cells) != len(header):
            raise ConfigError(f"{self._where}: {len(header)} columns are needed, not {len(cells)}")
        self._cells = dict(zip(header, cells, strict=True))

    def text(self, name: str) -> str:
        """Return a text that is not empty."""
        if not self._cells[name]:
            raise ConfigError(f"{self._where}: {name}: is empty")
        return self._cells[name]

    def number(self, name: str, least: float, most: float = math.inf) -> float:
        """Return a finite number within bounds."""
        text = self._cells[name]
        try:
            value = float(text)
        except ValueError:
            raise self.wrong(name, f"a number is needed, not {text!r}") from None
        if not math.isfinite(value) or not least <= value <= most:
            limits = f"{least:g} to {most:g}" if most < math.inf else f"{least:g} upwards"
            raise self.wrong(name, f"must be finite and from {limits}, not {text}")
        return value

    def whole(self, name: str) -> int:
        """Return a whole number of at least 0."""
        value = self.number(name, 0.0)
        if value != int(value):
            raise self.wrong(name, f"must be a whole number, not {self._cells[name]}")
        return int(value)

    def wrong(self, name: str, why: str) -> ConfigError:
        """Return an error about one cell."""
        return ConfigError(f"{self._where}: {name}: {why}")


def read_arrivals(path: Path) -> Trace:
    """Return the trace in a file with the columns arrival_s and prompt_id.

    Raises:
        ConfigError: names file, line and column of what is wrong.
    """
    arrivals: list[float] = []
    prompts: list[str] = []
    with reading(path) as lines:
        check_header(path, lines, ARRIVALS)
        for line, cells in lines:
            row = Cells(path, line, ARRIVALS, cells)
            arrivals.append(row.number("arrival_s", 0.0))
            prompts.append(row.text("prompt_id"))
            if len(arrivals) > 1 and arrivals[-1] < arrivals[-2]:
                raise row.wrong("arrival_s", "is earlier than in the line above")
    if not arrivals:
        raise ConfigError(f"{path}: holds no arrival")
    return Trace(np.array(arrivals), np.array(prompts))


def write_arrivals(path: Path, trace: Trace) -> None:
    """Write a trace; times to the microsecond."""
    rows = zip(trace.arrival_s.tolist(), trace.prompt_id.tolist(), strict=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(ARRIVALS)
        out.writerows((f"{at_s:.6f}", prompt) for at_s, prompt in rows)


def prompt_header(levels: Sequence[str]) -> list[str]:
    """Return the columns of prompts.csv for a ladder."""
    quality = [f"quality_{level}" for level in levels]
    return ["prompt_id", "similarity", *quality, *(f"predicted_{level}" for level in levels)]


def read_prompts(path: Path, levels: Sequence[str]) -> PromptTable:
    """Return the prompts in a file with a column of quality and of prediction for each level.

    Args:
        path: of the file.
        levels: names in the ladder's order.

    Raises:
        ConfigError: names file, line and column of what is wrong.
    """
    header = prompt_header(levels)
    similarity: list[float] = []
    values: list[list[float]] = []
    seen: dict[str, int] = {}
    with reading(path) as lines:
        check_header(path, lines, header)
        for line, cells in lines:
            row = Cells(path, line, header, cells)
            name = row.text("prompt_id")
            if name in seen:
                raise row.wrong("prompt_id", f"{name!r} stands in line {seen[name]} already")
            seen[name] = line
            similarity.append(row.number("similarity", -1.0, 1.0))
            values.append([row.number(column, 0.0, MAX_QUALITY) for column in header[2:]])
    if not values:
        raise ConfigError(f"{path}: holds no prompt")
    table = np.array(values)
    n = len(levels)
    return PromptTable(np.array(list(seen)), np.array(similarity), table[:, :n], table[:, n:])


def write_prompts(path: Path, prompts: PromptTable, levels: Sequence[str]) -> None:
    """Write prompts; qualities to six digits."""
    values = np.hstack([prompts.similarity[:, None], prompts.quality, prompts.predicted])
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(prompt_header(levels))
        for name, row in zip(prompts.ids.tolist(), values.tolist(), strict=True):
            out.writerow([name, *(f"{value:.6f}" for value in row)])


def write_outcome(path: Path, outcome: Outcome) -> None:
    """Write out.csv: every arrival a row, in the trace's order; `nan` where there is no time.

    Times are written to the last bit, so that whoever reads them finds the same status.
    """
    columns = (outcome.start_s, outcome.finish_s, outcome.level, outcome.node, outcome.deadline_s)
    names = {status.value: status.name.lower() for status in Status}
    rows = zip(
        outcome.prompt_id.tolist(),
        outcome.arrival_s.tolist(),
        *(column.tolist() for column in columns),
        outcome.quality.tolist(),
        (names[status] for status in outcome.status.tolist()),
        strict=True,
    )
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(OUT)
        out.writerows(rows)


def read_outcome(path: Path) -> Outcome:
    """Return what a run wrote; what it took is not in the file and reads as 0.

    Raises:
        ConfigError: names file, line and column of what is wrong.
    """
    known = {status.name.lower(): status for status in Status}
    texts: list[str] = []
    numbers: list[list[float]] = []
    with reading(path) as lines:
        check_header(path, lines, OUT)
        for line, cells in lines:
            row = Cells(path, line, OUT, cells)
            texts.append(row.text("prompt_id"))
            status = known.get(row.text("status"))
            if status is None:
                raise row.wrong("status", f"must be one of {', '.join(known)}")
            made = status in (Status.ON_TIME, Status.LATE)
            numbers.append([*_numbers(row, made), float(status)])
    columns = np.array(numbers).reshape(-1, 8).T
    whole: Sequence[int] = (3, 4, 7)
    arrival, start, finish, deadline, quality = (columns[i] for i in range(8) if i not in whole)
    level, node, ended = (columns[i].astype(np.int64) for i in whole)
    return Outcome(
        prompt_id=np.array(texts),
        arrival_s=arrival,
        start_s=start,
        finish_s=finish,
        level=level,
        node=node,
        deadline_s=deadline,
        quality=quality,
        status=ended,
        decisions=0,
        policy_s=0.0,
        wall_s=0.0,
    )


def _numbers(row: Cells, made: bool) -> list[float]:
    """Return arrival, start, finish, level, node, deadline and quality of a line of out.csv."""
    least = 0.0 if made else -1.0
    return [
        row.number("arrival_s", 0.0),
        row.number("start_s", 0.0) if made else math.nan,
        row.number("finish_s", 0.0) if made else math.nan,
        row.number("level", least),
        row.number("node", least),
        row.number("deadline_s", 0.0),
        row.number("quality", 0.0, MAX_QUALITY),
    ]


def check_header(path: Path, lines: Iterator[Line], wanted: Sequence[str]) -> None:
    """Take the first line; raise ConfigError where it is another one than `wanted`."""
    _, found = next(lines, (1, []))
    if list(found) == list(wanted):
        return
    for i, name in enumerate(wanted):
        if i >= len(found):
            raise ConfigError(f"{path}:1: {name}: the column is missing")
        if found[i] != name:
            raise ConfigError(f"{path}:1: column {i + 1} must be {name!r}, not {found[i]!r}")
    raise ConfigError(f"{path}:1: {found[len(wanted)]}: unknown column")


@contextmanager
def reading(path: Path) -> Iterator[Iterator[Line]]:
    """Open a CSV file; yields the lines that are not empty, each with its number."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file)
            yield ((rows.line_num, cells) for cells in rows if cells)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
