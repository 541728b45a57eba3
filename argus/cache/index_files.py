"""The embedded index on disk.

    index.json                    what is in force: format, embedder, dtype, files with checksums
    DIGEST.GENERATION.usearch     a partition's graph
    DIGEST.GENERATION.json        its entries

Files are never changed: a save writes new ones, syncs them, and then replaces index.json, so at
every moment index.json names whole files. What it does not name is removed afterwards.
"""

from __future__ import annotations

import json
import logging
import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from argus.cache.folder_lock import FolderLock
from argus.cache.index import EmbedderId, check_embedder
from argus.cache.keys import Partition
from argus.errors import ArgusError, FailedPreconditionError

log = logging.getLogger(__name__)

_FORMAT = 1
_MANIFEST = "index.json"
_CHUNK = 2**20
_BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, ArgusError)


@dataclass(slots=True)
class SavedEntry:
    """What an index keeps of an entry besides its vector."""

    prompt: str
    owner: str
    created_unix_s: float
    uses: int
    holders: dict[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class SavedPart:
    """A partition as it was saved: its graph's file and its entries by label."""

    partition: Partition
    graph: Path
    entries: dict[int, SavedEntry]


class IndexFolder:
    """The folder of one index, made if needed.

    Raises:
        FailedPreconditionError: it holds the index of another embedder, dtype, or format, or
            another process has it open.
        OSError: it cannot be made.
    """

    def __init__(self, folder: Path, embedder: EmbedderId, dtype: str) -> None:
        self._folder = folder
        self._header = {"format": _FORMAT, "embedder": asdict(embedder), "dtype": dtype}
        folder.mkdir(parents=True, exist_ok=True)
        self._files: dict[str, dict[str, Any]] = {}
        self._unsynced: set[str] = set()
        self._lock = FolderLock(folder)
        manifest = self._read_manifest()
        if manifest is not None:
            try:
                self._check(manifest, embedder)
            except FailedPreconditionError:
                self._lock.release()
                raise
            self._files = manifest["partitions"]
        self._generation = max((int(row["generation"]) for row in self._files.values()), default=0)

    def close(self) -> None:
        """Let other processes in."""
        self._lock.release()

    def load(self) -> list[SavedPart]:
        """Return the partitions that are whole; what is damaged is logged and left out."""
        parts = []
        for digest, row in list(self._files.items()):
            try:
                parts.append(self._load_one(digest, row))
            except _BROKEN as error:
                log.warning("a partition of the index is lost: %s: %s", digest, error)
                del self._files[digest]
        return parts

    def write_graph(self, digest: str, save_graph: Callable[[str], object]) -> int:
        """Write a partition's graph beside the one in force; return its generation.

        Args:
            save_graph: writes the graph to a path.

        Raises:
            OSError: it cannot be written; what is in force stays so.
        """
        self._generation += 1
        graph, _ = self._paths(digest, self._generation)
        try:
            save_graph(str(graph))
        except RuntimeError as error:
            # How usearch says that the disk is full.
            raise OSError(f"{graph}: {error}") from error
        return self._generation

    def write_entries(
        self, partition: Partition, generation: int, entries: Mapping[int, SavedEntry]
    ) -> Path:
        """Write the entries of a graph that `write_graph` wrote; return the graph's path.

        Raises:
            OSError: they cannot be written; what is in force stays so.
        """
        graph, lines = self._paths(partition.digest, generation)
        rows = [(label, asdict(entry)) for label, entry in entries.items()]
        lines.write_text(json.dumps(rows, separators=(",", ":")), encoding="utf-8")
        self._files[partition.digest] = {
            "partition": partition.to_json(),
            "generation": generation,
            "graph_crc32": _checksum(graph),
            "entries_crc32": _checksum(lines),
        }
        self._unsynced |= {graph.name, lines.name}
        return graph

    def commit(self, digests: set[str]) -> None:
        """Put in force what was written, for the partitions that still exist."""
        self._files = {digest: row for digest, row in self._files.items() if digest in digests}
        keep = {_MANIFEST}
        for digest, row in self._files.items():
            keep |= {path.name for path in self._paths(digest, row["generation"])}
        for name in self._unsynced & keep:
            _sync(self._folder / name)
        self._unsynced.clear()
        temporary = self._folder / f"{_MANIFEST}.tmp"
        text = json.dumps(self._header | {"partitions": self._files}, indent=1)
        temporary.write_text(text, encoding="utf-8")
        _sync(temporary)
        temporary.replace(self._folder / _MANIFEST)
        _sync(self._folder)
        for path in self._folder.iterdir():
            if path.name not in keep and path.suffix in (".usearch", ".json", ".tmp"):
                path.unlink(missing_ok=True)

    def _paths(self, digest: str, generation: int) -> tuple[Path, Path]:
        stem = f"{digest}.{generation}"
        return self._folder / f"{stem}.usearch", self._folder / f"{stem}.json"

    def _read_manifest(self) -> dict[str, Any] | None:
        try:
            return _manifest(json.loads((self._folder / _MANIFEST).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, RecursionError) as error:
            log.warning("%s: the saved index cannot be read and is begun anew: %s",
                        self._folder, error)  # fmt: skip
            return None

    def _check(self, manifest: Mapping[str, Any], embedder: EmbedderId) -> None:
        if manifest.get("format") != _FORMAT:
            raise FailedPreconditionError(
                f"{self._folder}: an index of format {manifest.get('format')}, not {_FORMAT}"
            )
        check_embedder(EmbedderId(**manifest["embedder"]), embedder, str(self._folder))
        if manifest["dtype"] != self._header["dtype"]:
            raise FailedPreconditionError(
                f"{self._folder}: its vectors are {manifest['dtype']}, not {self._header['dtype']}"
            )

    def _load_one(self, digest: str, row: Mapping[str, Any]) -> SavedPart:
        partition = Partition.from_json(row["partition"])
        # Only then is the name of the files made of digits alone.
        if partition.digest != digest:
            raise ValueError("it is not the partition of that name")
        graph, lines = self._paths(digest, row["generation"])
        if _checksum(graph) != row["graph_crc32"] or _checksum(lines) != row["entries_crc32"]:
            raise ValueError("a checksum is wrong")
        entries = {}
        for label, fields in json.loads(lines.read_text(encoding="utf-8")):
            holders = {name: tuple(ks) for name, ks in fields.pop("holders").items()}
            entries[int(label)] = SavedEntry(**fields, holders=holders)
        return SavedPart(partition, graph, entries)


def _manifest(data: Any) -> dict[str, Any]:
    """Return a manifest whose form is right; what its partitions say is checked on loading.

    Raises:
        ValueError: it is something else.
    """
    # Of another format nothing is known but its number.
    if not isinstance(data, dict) or not isinstance(data.get("format"), int):
        raise ValueError("it is not a manifest")
    if data["format"] != _FORMAT:
        return data
    partitions, embedder = data.get("partitions"), data.get("embedder")
    if not isinstance(partitions, dict) or not isinstance(embedder, dict):
        raise ValueError("it has no partitions, or no embedder")
    if set(embedder) != {"name", "dimension"} or not isinstance(data.get("dtype"), str):
        raise ValueError("it does not say what made its vectors")
    for row in partitions.values():
        if not isinstance(row, dict) or type(row.get("generation")) is not int:
            raise ValueError("a partition has no generation")
    return data


def _checksum(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            value = zlib.crc32(chunk, value)
    return value


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
