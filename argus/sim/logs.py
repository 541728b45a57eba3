"""Traces of others: published request logs and invocation counts, read as arrivals.

The kind is told by the first line:

- `arrival_s,prompt_id`: our own form.
- `HashOwner,HashApp,HashFunction,Trigger,1,…,1440`: Azure Functions 2019, invocations of each
  function in each minute of a day; the minutes' sums are spread evenly. No prompts.
- `gmt_create,…`: the request log of Alibaba's GenTD26 (lora_request_trace.csv). Its times are whole
  seconds; requests are spread evenly within theirs. One arrival for each request, whatever number
  of pictures it asked for and however it ended. No prompts.
- numbers, `milliseconds,prompt,…`: Proteus and DiffServe. Lines need not ascend, `#` begins a
  comment, what follows the prompt is left out. Prompts are line numbers of another file: here, of
  rows of the prompt table, from 0, around its end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np

from argus.errors import ConfigError
from argus.sim.files import ARRIVALS, Cells, Line, read_arrivals, reading
from argus.sim.shapes import draw_arrivals, spread
from argus.sim.types import Floats, Ints, PromptTable, Texts, Trace

AZURE = ["HashOwner", "HashApp", "HashFunction", "Trigger"]
ALIBABA = "gmt_create"
_MINUTE_S = 60.0


def read_trace(path: Path, prompts: PromptTable, seed: int) -> Trace:
    """Return the trace in a file of any known kind.

    Args:
        path: of the file.
        prompts: from which those are drawn that the file does not name.
        seed: of what the file leaves open: prompts, and times within a minute or second.

    Raises:
        ConfigError: names the file, and line and column where one is wrong.
    """
    rng = np.random.default_rng(seed)
    with reading(path) as lines:
        number, first = next(lines, (1, []))
        if first[: len(AZURE)] == AZURE:
            times = _azure(path, first, lines, rng)
        elif ALIBABA in first:
            times = _alibaba(path, first, lines, rng)
        elif first[:1] == ARRIVALS[:1]:
            return read_arrivals(path)
        elif first and (first[0].startswith("#") or _is_number(first[0])):
            return _milliseconds(path, (number, first), lines, prompts)
        else:
            raise ConfigError(
                f"{path}:1: the columns {','.join(ARRIVALS)} are needed, not {','.join(first)!r}"
            )
    if not len(times):
        raise ConfigError(f"{path}: holds no arrival")
    return Trace(times - times[0], draw_ids(prompts, len(times), rng))


def draw_ids(prompts: PromptTable, count: int, rng: np.random.Generator) -> Texts:
    """Return ids of prompts drawn with equal chances."""
    ids: Texts = prompts.ids[rng.integers(0, len(prompts), count)]
    return ids


def drawn_trace(shape: str, rate: float, seconds: int, prompts: PromptTable, seed: int) -> Trace:
    """Return arrivals of a shape, each with a prompt drawn from a table.

    Args and errors: see `argus.sim.shapes.draw_arrivals`.
    """
    times = draw_arrivals(shape, rate, seconds, seed)
    return Trace(times, draw_ids(prompts, len(times), np.random.default_rng([seed, 1])))


def rescaled(trace: Trace, rate: float) -> Trace:
    """Return the trace with its time stretched so that `rate` arrivals a second come on average."""
    if trace.span_s <= 0:
        raise ConfigError("a trace without a span cannot be scaled")
    return Trace(trace.arrival_s * ((len(trace) - 1) / trace.span_s / rate), trace.prompt_id)


def _azure(
    path: Path, header: list[str], lines: Iterator[Line], rng: np.random.Generator
) -> Floats:
    minutes = header[len(AZURE) :]
    total: Ints = np.zeros(len(minutes), dtype=np.int64)
    for line, cells in lines:
        row = Cells(path, line, header, cells)
        try:
            counts = np.array(cells[len(AZURE) :], dtype=np.int64)
        except ValueError:
            counts = np.array([row.whole(minute) for minute in minutes])
        if len(counts) and counts.min() < 0:
            raise row.wrong(minutes[int(counts.argmin())], "must not be negative")
        total += counts
    return spread(total, _MINUTE_S, rng)


def _alibaba(
    path: Path, header: list[str], lines: Iterator[Line], rng: np.random.Generator
) -> Floats:
    times = []
    for line, cells in lines:
        row = Cells(path, line, header, cells)
        text = row.text(ALIBABA)
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            raise row.wrong(ALIBABA, f"a date and time is needed, not {text!r}") from None
        times.append((at - datetime(1970, 1, 1, tzinfo=at.tzinfo)).total_seconds())
    return np.sort(np.array(times) + rng.random(len(times)))


def _milliseconds(path: Path, first: Line, lines: Iterator[Line], prompts: PromptTable) -> Trace:
    times: list[float] = []
    rows: list[int] = []
    header = ["milliseconds", "prompt"]
    for line, cells in _and_then(first, lines):
        if cells[0].lstrip().startswith("#"):
            continue
        row = Cells(path, line, header, cells[:2])
        times.append(row.number("milliseconds", 0.0) / 1000.0)
        rows.append(row.whole("prompt") % len(prompts))
    order = np.argsort(np.array(times), kind="stable")
    if not len(order):
        raise ConfigError(f"{path}: holds no arrival")
    return Trace(np.array(times)[order], prompts.ids[np.array(rows)[order]])


def _and_then(first: Line, lines: Iterator[Line]) -> Iterator[Line]:
    yield first
    yield from lines


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
