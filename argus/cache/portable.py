"""A cache in one file, to move it to another machine: export and import.

The file is a zip without compression: `cache.json` (format, embedder, the entries in order),
`vectors.npy` (float32, one row an entry) and for each entry with states `states/KEY` in the form
of `codec`. Checksums are the codec's own and the zip's.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from argus.cache.codec import CorruptStateError, decode, encode
from argus.cache.index import EmbedderId, Index, Vector, check_embedder
from argus.cache.keys import EntryKey, Partition
from argus.cache.state import EntryRecord
from argus.cache.store import StateStore
from argus.errors import FailedPreconditionError, InvalidArgumentError

_FORMAT = 1
_MANIFEST = "cache.json"
_VECTORS = "vectors.npy"

ReadEntry = Callable[[EntryKey], EntryRecord | None]
"""Gives a whole entry with its states, or None; `FileStore.read` is one."""


def export_cache(path: Path, index: Index, read: ReadEntry) -> int:
    """Write every entry of the index whose states can be read; return how many there were.

    The file appears under its name when it is whole.

    Raises:
        OSError: it cannot be written.
    """
    rows: list[dict[str, Any]] = []
    vectors: list[Vector] = []
    temporary = path.with_name(f".{path.name}.tmp")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for entry in index.entries():
            record = read(entry.key)
            if record is None:
                continue
            rows.append({"key": str(entry.key), "partition": entry.partition.to_json()})
            vectors.append(entry.vector)
            archive.writestr(f"states/{entry.key}", b"".join(encode(record)))
        buffer = io.BytesIO()
        np.save(buffer, np.array(vectors, dtype=np.float32))
        archive.writestr(_VECTORS, buffer.getvalue())
        header = {"format": _FORMAT, "embedder": asdict(index.embedder), "entries": rows}
        archive.writestr(_MANIFEST, json.dumps(header))
    temporary.replace(path)
    return len(rows)


def import_cache(path: Path, index: Index, store: StateStore, holder: str) -> tuple[int, int]:
    """Take in an exported file; return how many entries were taken and how many were damaged.

    Args:
        store: where the states go.
        holder: the name under which the index knows that store.

    Raises:
        InvalidArgumentError: the file is not an exported cache.
        FailedPreconditionError: it was made by another embedder or in another format.
        OSError: it cannot be read.
    """
    taken = damaged = 0
    try:
        with zipfile.ZipFile(path) as archive:
            header = json.loads(archive.read(_MANIFEST))
            _check(header, index.embedder, path)
            vectors = np.load(io.BytesIO(archive.read(_VECTORS)), allow_pickle=False)
            for row, vector in zip(header["entries"], vectors, strict=True):
                record = _read(archive, row["key"])
                if record is None:
                    damaged += 1
                    continue
                taken += _take(record, Partition.from_json(row["partition"]), vector,
                               index, store, holder)  # fmt: skip
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError) as error:
        raise InvalidArgumentError("path", f"{path} is not an exported cache: {error}") from error
    return taken, damaged


def _check(header: Mapping[str, Any], embedder: EmbedderId, path: Path) -> None:
    if header["format"] != _FORMAT:
        raise FailedPreconditionError(f"{path}: of format {header['format']}, not {_FORMAT}")
    check_embedder(EmbedderId(**header["embedder"]), embedder, str(path))


def _read(archive: zipfile.ZipFile, key: str) -> EntryRecord | None:
    try:
        record = decode(memoryview(archive.read(f"states/{key}")))
    except (CorruptStateError, zipfile.BadZipFile):
        return None
    return record if str(record.key) == key else None


def _take(
    record: EntryRecord,
    partition: Partition,
    vector: Vector,
    index: Index,
    store: StateStore,
    holder: str,
) -> bool:
    if not store.put(record):
        return False
    return index.record(
        partition,
        record.key,
        vector,
        holder,
        record.info.ks,
        owner=record.owner,
        created_unix_s=record.created_unix_s,
    )
