"""Scores of live requests: kept in a bounded folder by a coordinator, read as a score matrix.

live-NUMBER.jsonl       a header, then one line a picture, two pictures a comparison

The names of a line's values are those of the matrix's columns. Prompts are in it: whoever may
read the folder may read what users asked for.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from argus.cache.keys import normalise_prompt
from argus.errors import ConfigError, InvalidArgumentError
from argus.quality.matrix import TEXTS, WHOLES, Header, Rows, ScoreMatrix, ScorerVersion
from argus.types import Level

SCHEMA = 1
KIND, SPLIT = "live", "train"
ROWS_A_FILE = 1000
PATTERN = "live-*.jsonl"
_DIGITS = 8


@dataclass(frozen=True, slots=True)
class LivePicture:
    """One picture of a comparison.

    Attributes:
        level: it was made at.
        steps, skip: that were run, and that a cached state stood for.
        node: that made it.
        scores: by column; None where one is not defined.
    """

    level: Level
    steps: int
    skip: int
    node: str
    scores: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A request's picture beside the reference level's.

    Attributes:
        id: tells it from all others.
        prompt, seed: of both.
        similarity: to the cached prompt whose state was continued; None where none was.
        made, reference: the two.
    """

    id: str
    prompt: str
    seed: int
    similarity: float | None
    made: LivePicture
    reference: LivePicture

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield the two rows."""
        # Prompts that differ in case or spacing are one and must not be split.
        group = blake2b(normalise_prompt(self.prompt).encode(), digest_size=6).hexdigest()
        for picture in (self.reference, self.made):
            yield {
                "prompt_id": self.id,
                "prompt": self.prompt,
                "kind": KIND,
                "split": SPLIT,
                "group": group,
                "repeat": 0,
                "seed": self.seed,
                "level": picture.level.name,
                "variant": picture.level.variant,
                "steps": picture.steps,
                "skip": picture.skip,
                "neighbour_id": "",
                "similarity": self.similarity,
                "node": picture.node,
                "scores": dict(picture.scores),
            }


class LiveFolder:
    """Appends comparisons; the oldest go when there are too many.

    Args:
        path: made where it does not exist, readable by its owner alone.
        most_rows: rows kept; a file of them goes at a time.

    Raises:
        ConfigError: the folder cannot be made.
    """

    def __init__(self, path: Path, most_rows: int) -> None:
        self._path = path
        self._most_rows = most_rows
        self._rows_a_file = max(2, min(ROWS_A_FILE, most_rows // 2))
        self._header: Header | None = None
        self._file: Path | None = None
        self._rows = 0
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror or error}") from error

    def append(self, header: Header, comparison: Comparison) -> None:
        """Write the two rows of a comparison.

        Raises:
            OSError: the disk does not take them.
        """
        if self._file is None or header != self._header or self._rows + 2 > self._rows_a_file:
            self._begin(header)
        lines = "".join(json.dumps(line) + "\n" for line in comparison.lines())
        self._write(lines)
        self._rows += 2

    def _begin(self, header: Header) -> None:
        """Start a file of its own, and make room for it."""
        files = live_files(self._path)
        rows = {file: len(file.read_bytes().splitlines()) - 1 for file in files}
        for file in files:
            if sum(rows.values()) + self._rows_a_file > self._most_rows:
                file.unlink(missing_ok=True)
                del rows[file]
        number = 1 + max((_number(file) for file in files), default=0)
        self._file = self._path / f"live-{number:0{_DIGITS}}.jsonl"
        self._header, self._rows = header, 0
        self._write(json.dumps({"schema": SCHEMA, **asdict(header)}) + "\n")

    def _write(self, text: str) -> None:
        if self._file is None:
            return
        descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)


def live_files(path: Path) -> list[Path]:
    """Return the files of a folder, oldest first."""
    return sorted((f for f in path.glob(PATTERN) if _number(f)), key=_number)


def _number(file: Path) -> int:
    digits = file.stem.removeprefix("live-")
    return int(digits) if digits.isascii() and digits.isdigit() else 0


@dataclass(frozen=True, slots=True)
class Live:
    """What a folder held that fits a profile.

    Attributes:
        matrix: its rows; None where none fits.
        left_out: why comparisons were left out, with how many.
    """

    matrix: ScoreMatrix | None
    left_out: Mapping[str, int]


def read_live(path: Path, profile: ScoreMatrix) -> Live:
    """Return the comparisons in a folder as further rows beside a profile's.

    Every comparison is a prompt of its own with one repeat, in the split `train`; comparisons of
    one prompt share a group. Left out, and counted, are those of other levels or scorers than the
    profile's, whose numbers mean something else, and those of the profile's own prompts that are
    kept for calibration and test: who learned from them could not be judged by them.

    Args:
        path: the folder.
        profile: beside which they are to stand.

    Raises:
        ConfigError: there is no such folder, or a file in it is damaged; names the line.
    """
    if not path.is_dir():
        raise ConfigError(f"{path}: no such folder")
    like, aside = profile.header, _aside(profile)
    left_out: dict[str, int] = {}
    rows: list[dict[str, Any]] = []
    for file in live_files(path):
        header, pairs = _read_file(file)
        reason = _misfit(header, like)
        for pair in pairs:
            why = reason or _unknown_level(pair, header, like) or _held_out(pair, aside)
            if why:
                left_out[why] = left_out.get(why, 0) + 1
            else:
                rows += pair
    if not rows:
        return Live(None, left_out)
    header = replace(like, circumstances={**like.circumstances, "live": str(path)})
    return Live(ScoreMatrix(header, _as_rows(rows, like)), left_out)


def beside(profile: ScoreMatrix, live: ScoreMatrix) -> ScoreMatrix:
    """Return a profile's matrix with live rows behind its own.

    Raises:
        InvalidArgumentError: they are not of the same levels and scorers, or share a prompt id.
    """
    if (live.header.levels, live.header.scorers) != (profile.header.levels, profile.header.scorers):
        raise InvalidArgumentError("live", "is not of the profile's levels and scorers")
    shared = set(profile.prompts.ids) & set(live.prompts.ids)
    if shared:
        raise InvalidArgumentError("live", f"prompt {min(shared)} is in the profile, too")
    one, other = profile.rows, live.rows
    rows = Rows(
        {name: one.texts[name] + other.texts[name] for name in TEXTS},
        {name: one.wholes[name] + other.wholes[name] for name in WHOLES},
        np.concatenate([one.similarity, other.similarity]),
        {name: np.concatenate([column, other.scores[name]]) for name, column in one.scores.items()},
    )
    return ScoreMatrix(replace(profile.header, circumstances=live.header.circumstances), rows)


def _read_file(file: Path) -> tuple[Header, list[list[dict[str, Any]]]]:
    """Return a file's header and its pairs of rows: the reference's, and the other."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: {error}") from error
    # What was being written when its process ended is no row yet.
    whole = [line for line in lines if line.endswith("\n")]
    if not whole:
        raise ConfigError(f"{file}: line 1: no header")
    header = _header(file, whole[0])
    rows = [_row(file, number, line) for number, line in enumerate(whole[1:], start=2)]
    pairs = [rows[i : i + 2] for i in range(0, len(rows) - 1, 2)]
    for i, (one, other) in enumerate(pairs):
        if one["prompt_id"] != other["prompt_id"]:
            raise ConfigError(f"{file}: line {2 * i + 3}: prompt_id: not that of the line before")
    return header, pairs


def _header(file: Path, line: str) -> Header:
    try:
        data = json.loads(line)
        if data["schema"] != SCHEMA:
            raise ValueError(f"schema {SCHEMA} is read here, not {data['schema']!r}")
        return Header(
            tuple(Level(**level) for level in data["levels"]),
            tuple(
                ScorerVersion(s["name"], s["version"], tuple(s["columns"])) for s in data["scorers"]
            ),
            data["main"],
            data["embedder"],
            data["circumstances"],
        )
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{file}: line 1: {error!r}") from error


def _row(file: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
        kinds = [(name, str) for name in TEXTS] + [(name, int) for name in WHOLES]
        for name, kind in kinds:
            if not isinstance(row[name], kind):
                raise TypeError(f"{name}: {kind.__name__} needed")
        for name, value in {"similarity": row["similarity"], **row["scores"]}.items():
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{name}: not finite")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"{file}: line {number}: {error!r}") from error
    return dict(row)


def _misfit(header: Header, like: Header) -> str:
    """Return why no row under a header fits; empty where rows may."""
    if _place(header.levels[0]) != _place(like.levels[0]):
        return "another reference level"
    versions = {s.name: s.version for s in header.scorers}
    for scorer in like.scorers:
        if like.main in scorer.columns and versions.get(scorer.name) != scorer.version:
            return f"not scored by {scorer.name} {scorer.version}"
    return ""


def _unknown_level(pair: Sequence[Mapping[str, Any]], header: Header, like: Header) -> str:
    own = {level.name: _place(level) for level in header.levels}
    known = {level.name: _place(level) for level in like.levels}
    for row in pair:
        name = row["level"]
        if name not in known or own.get(name) != known[name]:
            return f"level {name} is not the profile's"
    return "" if pair[0]["level"] == like.levels[0].name else "another reference level"


def _aside(profile: ScoreMatrix) -> frozenset[str]:
    """Return the prompts that are not for training, as they are compared."""
    prompts = profile.prompts
    return frozenset(
        normalise_prompt(text)
        for text, split in zip(prompts.texts, prompts.splits, strict=True)
        if split not in ("", SPLIT)
    )


def _held_out(pair: Sequence[Mapping[str, Any]], aside: frozenset[str]) -> str:
    held = normalise_prompt(pair[0]["prompt"]) in aside
    return "a prompt that the profile keeps for calibration or test" if held else ""


def _place(level: Level) -> tuple[str, str, float, float]:
    """Return what makes a level what it is, whatever quality is stated of it."""
    return level.name, level.variant, level.steps_fraction, level.skip_fraction


def _as_rows(rows: Sequence[Mapping[str, Any]], like: Header) -> Rows:
    def number(value: float | None) -> float:
        return math.nan if value is None else float(value)

    columns = [column for scorer in like.scorers for column in scorer.columns]
    return Rows(
        {name: [row[name] for row in rows] for name in TEXTS},
        {name: [row[name] for row in rows] for name in WHOLES},
        np.array([number(row["similarity"]) for row in rows]),
        {c: np.array([number(row["scores"].get(c)) for row in rows]) for c in columns},
    )
