"""The score matrix: one row for each prompt, repeat and level."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from argus.control.fields import Fields
from argus.errors import ConfigError
from argus.types import Level

SCHEMA = 1
META = b"argus"
MAIN = "facts"
"""Column that relative quality is made of where nothing else is said."""
TEXTS = (
    "prompt_id",
    "prompt",
    "kind",
    "split",
    "group",
    "level",
    "variant",
    "neighbour_id",
    "node",
)
WHOLES = ("repeat", "seed", "steps", "skip")
NUMBERS = ("similarity",)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rows:
    """The table's columns, one value a picture.

    Attributes:
        texts: by the names in `TEXTS`.
        wholes: by the names in `WHOLES`; `skip` is 0 where no state was continued.
        similarity: of the prompt to its nearest cached neighbour, NaN without one.
        scores: by scorer column, NaN where not defined.
    """

    texts: Mapping[str, list[str]]
    wholes: Mapping[str, list[int]]
    similarity: Floats
    scores: Mapping[str, Floats]

    def __len__(self) -> int:
        return len(self.similarity)


@dataclass(frozen=True, slots=True)
class ScorerVersion:
    """Which scorer filled which columns."""

    name: str
    version: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Header:
    """What the rows are of.

    Attributes:
        levels: in the ladder's order, the reference level first.
        scorers: that filled the score columns.
        main: column that relative quality is made of.
        embedder: that similarities are of; empty where there are none.
        circumstances: date, command, versions and the like, for readers.
    """

    levels: tuple[Level, ...]
    scorers: tuple[ScorerVersion, ...]
    main: str
    embedder: str
    circumstances: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompts of a matrix, in the order of the first axis of its arrays."""

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    kinds: tuple[str, ...]
    splits: tuple[str, ...]
    groups: tuple[str, ...]
    similarity: Floats
    neighbours: tuple[str, ...]

    def in_split(self, split: str) -> NDArray[np.bool_]:
        """Return (prompts,) which are in a split."""
        return np.array([own == split for own in self.splits])


class ScoreMatrix:
    """A profile's scores.

    Args:
        header: what they are of.
        rows: the table.
    """

    def __init__(self, header: Header, rows: Rows) -> None:
        self.header = header
        self.rows = rows
        first: dict[str, int] = {}
        for i, name in enumerate(rows.texts["prompt_id"]):
            first.setdefault(name, i)
        places = list(first.values())

        def column(name: str) -> tuple[str, ...]:
            return tuple(rows.texts[name][i] for i in places)

        # Where a prompt's nearest neighbour is known it is the same in all of its rows that say.
        near = {
            rows.texts["prompt_id"][i]: rows.texts["neighbour_id"][i]
            for i in range(len(rows))
            if rows.texts["neighbour_id"][i]
        }
        self.prompts = Prompts(
            tuple(first),
            column("prompt"),
            column("kind"),
            column("split"),
            column("group"),
            rows.similarity[places],
            tuple(near.get(name, "") for name in first),
        )
        levels = {level.name: i for i, level in enumerate(header.levels)}
        row_of = {name: i for i, name in enumerate(first)}
        self._at = (
            np.array([row_of[name] for name in rows.texts["prompt_id"]], dtype=int),
            np.array(rows.wholes["repeat"], dtype=int),
            np.array([levels[name] for name in rows.texts["level"]], dtype=int),
        )

    @property
    def levels(self) -> tuple[Level, ...]:
        """In the ladder's order, the reference level first."""
        return self.header.levels

    def scores(self, column: str | None = None) -> Floats:
        """Return (prompts, repeats, levels) of a column, the main one by default; NaN: no picture.

        A picture that was to continue a state and had to run every step does not count.
        """
        repeats = int(self._at[1].max(initial=0)) + 1
        shape = (len(self.prompts.ids), repeats, len(self.levels))
        values = np.full(shape, np.nan)
        skips = np.array([level.skip_fraction > 0 for level in self.levels])
        counts = ~skips[self._at[2]] | (np.array(self.rows.wholes["skip"]) > 0)
        places = tuple(axis[counts] for axis in self._at)
        values[places] = self.rows.scores[column or self.header.main][counts]
        return values

    def relative(self, column: str | None = None) -> Floats:
        """Return (prompts, repeats, levels) score / score of the reference level, same noise.

        Clipped nowhere; NaN where the reference scored 0 or either picture is missing.
        """
        values = self.scores(column)
        reference = values[:, :, :1]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(reference > 0, values / reference, np.nan)

    def fingerprint(self) -> str:
        """Return what tells this matrix from others, 16 hexadecimal digits."""
        digest = blake2b(digest_size=8)
        digest.update(_header_json(self.header).encode())
        for name in (*TEXTS, *WHOLES):
            source: Mapping[str, Sequence[Any]] = (
                self.rows.texts if name in TEXTS else self.rows.wholes
            )
            digest.update("\0".join(str(value) for value in source[name]).encode())
        for values in (self.rows.similarity, *self.rows.scores.values()):
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()

    def write(self, path: Path) -> None:
        """Write the Parquet file."""
        import pyarrow
        import pyarrow.parquet

        rows = self.rows
        columns: dict[str, Any] = {name: rows.texts[name] for name in TEXTS}
        columns |= {name: np.array(rows.wholes[name], dtype=np.int64) for name in WHOLES}
        for name, values in (("similarity", rows.similarity), *rows.scores.items()):
            columns[name] = pyarrow.array(values, from_pandas=True)
        table = pyarrow.table(columns).replace_schema_metadata({META: _header_json(self.header)})
        pyarrow.parquet.write_table(table, path, compression="zstd")

    @staticmethod
    def read(path: Path) -> ScoreMatrix:
        """Return the matrix in a Parquet file.

        Raises:
            ConfigError: names the file and what is wrong with it.
        """
        import pyarrow
        import pyarrow.parquet

        try:
            table = pyarrow.parquet.read_table(path)
        except (OSError, pyarrow.ArrowException) as error:
            raise ConfigError(f"{path}: cannot be read as Parquet: {error}") from error
        header = _read_header(path, (table.schema.metadata or {}).get(META))
        wanted = (*TEXTS, *WHOLES, *NUMBERS, *(c for s in header.scorers for c in s.columns))
        missing = [name for name in wanted if name not in table.column_names]
        if missing:
            raise ConfigError(f"{path}: has no column {missing[0]}")

        def numbers(name: str) -> Floats:
            return np.asarray(table[name].to_numpy(zero_copy_only=False), dtype=np.float64)

        known = {level.name for level in header.levels}
        texts = {name: [str(x or "") for x in table[name].to_pylist()] for name in TEXTS}
        for name in texts["level"]:
            if name not in known:
                raise ConfigError(f"{path}: level: {name!r} is not in the header")
        return ScoreMatrix(
            header,
            Rows(
                texts,
                {name: [int(x) for x in table[name].to_pylist()] for name in WHOLES},
                numbers("similarity"),
                {c: numbers(c) for scorer in header.scorers for c in scorer.columns},
            ),
        )


def _header_json(header: Header) -> str:
    return json.dumps({"schema": SCHEMA, **asdict(header)}, sort_keys=True)


def _read_header(path: Path, data: bytes | None) -> Header:
    if data is None:
        raise ConfigError(f"{path}: was not written by argus profile: no {META.decode()} metadata")
    source = f"{path}: metadata"
    try:
        content = json.loads(data)
    except ValueError as error:
        raise ConfigError(f"{source}: not JSON: {error}") from error
    fields = Fields(
        source,
        "",
        content,
        ("schema", "levels", "scorers", "main", "embedder", "circumstances"),
    )
    if fields.whole("schema") != SCHEMA:
        raise ConfigError(
            f"{source}: schema: {SCHEMA} is read here, not {fields.value('schema')!r}"
        )
    names = ("name", "variant", "steps_fraction", "quality", "skip_fraction")
    levels = [Level(**row) for row in fields.items("levels") if set(row) == set(names)]
    if len(levels) != len(fields.items("levels")):
        raise ConfigError(f"{source}: levels: each needs {', '.join(names)}")
    scorers = [
        ScorerVersion(row["name"], row["version"], tuple(row["columns"]))
        for row in fields.items("scorers")
    ]
    return Header(
        tuple(levels),
        tuple(scorers),
        fields.text("main"),
        str(fields.value("embedder")),
        fields.texts("circumstances"),
    )
