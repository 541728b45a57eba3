"""The index inside the coordinator: one usearch graph (HNSW) for each partition.

usearch cannot filter, so partitions do not share a graph; that also keeps tenants apart by
construction. Vectors are float16: half the memory of float32, with the recall that docs/cache.md
has. A saved partition is only mapped until something is written to it.

A graph finds next to everything where prompts lie on a manifold of few dimensions, as those of text
encoders do, and far less where each lies in a direction of its own. Small partitions, which most
are, do not depend on that: all their vectors are compared, which takes no longer than a graph.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from usearch.index import Index as Graph

from argus.cache.index import (
    EmbedderId,
    IndexCounts,
    IndexedEntry,
    Neighbour,
    Vector,
    check_entry,
    check_vector,
)
from argus.cache.index_files import IndexFolder, SavedEntry, SavedPart
from argus.cache.keys import EntryKey, Partition
from argus.cache.store import Selection
from argus.errors import InvalidArgumentError

log = logging.getLogger(__name__)

EXACT_UP_TO = 4096
"""Entries that are compared one by one, in 0.23 ms with 384 dimensions."""
DTYPES = {"float16": "f16", "int8": "i8", "float32": "f32"}
"""Storage of the vectors as usearch calls it."""


@dataclass(slots=True)
class _Part:
    """A partition's graph, and its entries by label."""

    partition: Partition
    graph: Graph
    entries: dict[int, SavedEntry] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    mapped: Path | None = None
    """File that the graph is a read-only view of."""
    changed: bool = True
    next_label: int = 0

    @staticmethod
    def of(saved: SavedPart) -> _Part:
        """Return a saved partition, mapped."""
        graph = Graph.restore(str(saved.graph), view=True)
        if graph is None or len(graph) != len(saved.entries):
            raise ValueError(f"{saved.graph}: not the graph of {len(saved.entries)} entries")
        labels = {entry.prompt: label for label, entry in saved.entries.items()}
        last = max(saved.entries, default=-1)
        return _Part(
            saved.partition, graph, dict(saved.entries), labels, saved.graph, False, last + 1
        )

    def writable(self) -> Graph:
        """Return the graph after reading it into memory if it was only mapped."""
        if self.mapped is not None:
            self.graph.load(str(self.mapped))
            self.mapped = None
        return self.graph

    def copied(self) -> dict[int, SavedEntry]:
        """Return the entries as they are now."""
        return {
            label: replace(entry, holders=dict(entry.holders))
            for label, entry in self.entries.items()
        }

    def add(self, entry: SavedEntry, unit: Vector) -> int:
        """Take in an entry; return its label."""
        label = self.next_label
        self.writable().add(label, unit)
        self.next_label += 1
        self.entries[label] = entry
        self.labels[entry.prompt] = label
        return label

    def remove(self, label: int) -> None:
        """Drop an entry."""
        self.writable().remove(label)
        del self.labels[self.entries.pop(label).prompt]
        self.changed = True


class EmbeddedIndex:
    """Entries in this process. Safe for several threads.

    Args:
        embedder: what makes the vectors.
        folder: where it is saved and taken up from; None keeps it in memory only.
        dtype: storage of the vectors, one of `DTYPES`.
        exact_up_to: the most entries of a partition that are compared one by one.

    Raises:
        FailedPreconditionError: what is saved was made by another embedder or with another dtype,
            or another process has it open.
        InvalidArgumentError: no such dtype.
    """

    def __init__(
        self,
        embedder: EmbedderId,
        folder: Path | None = None,
        dtype: str = "float16",
        exact_up_to: int = EXACT_UP_TO,
    ) -> None:
        if dtype not in DTYPES:
            raise InvalidArgumentError("dtype", f"must be one of {', '.join(DTYPES)}, not {dtype}")
        self.embedder = embedder
        self.counts = IndexCounts()
        self._dtype = dtype
        self._exact_up_to = exact_up_to
        self._folder = IndexFolder(folder, embedder, dtype) if folder is not None else None
        self._lock = threading.Lock()
        self._save_lock = threading.Lock()
        self._parts: dict[str, _Part] = {}
        for saved in self._folder.load() if self._folder is not None else ():
            try:
                self._parts[saved.partition.digest] = _Part.of(saved)
            except (RuntimeError, ValueError) as error:
                log.warning("a partition of the index is lost: %s", error)

    def nearest(self, partition: Partition, vector: Vector) -> Neighbour | None:
        """Return the entry of the partition with the highest cosine similarity, or None."""
        unit = check_vector(vector, self.embedder)
        digest = partition.digest
        with self._lock:
            self.counts.lookups += 1
            part = self._parts.get(digest)
            if part is None:
                self.counts.empty += 1
                return None
            exact = len(part.entries) <= self._exact_up_to
            found = part.graph.search(unit, 1, exact=exact)
            entry = part.entries[int(found.keys[0])]
            similarity = min(1.0, max(-1.0, 1.0 - float(found.distances[0])))
            return Neighbour(
                EntryKey(digest, entry.prompt), similarity, entry.uses, dict(entry.holders)
            )

    def record(
        self,
        partition: Partition,
        key: EntryKey,
        vector: Vector,
        holder: str,
        ks: Iterable[int],
        *,
        owner: str = "",
        created_unix_s: float = 0.0,
    ) -> bool:
        """Note that a holder has states of an entry."""
        ordered = check_entry(partition, key, ks)
        unit = check_vector(vector, self.embedder)
        with self._lock:
            part = self._parts.get(key.partition)
            if part is None:
                part = self._parts[key.partition] = _Part(partition, self._new_graph())
            label = part.labels.get(key.prompt)
            if label is None:
                entry = SavedEntry(key.prompt, owner, created_unix_s or time.time(), 0, {})
                label = part.add(entry, unit)
            part.entries[label].holders[holder] = ordered
            part.changed = True
        return True

    def forget(self, key: EntryKey, holder: str) -> None:
        """Note that a holder has nothing of an entry any more."""
        with self._lock:
            self._forget(key, holder)

    def reconcile(self, holder: str, held: Mapping[EntryKey, tuple[int, ...]]) -> list[EntryKey]:
        """Note all that a holder has, forget what it has not; return the entries not here."""
        unknown = []
        with self._lock:
            for digest, part in list(self._parts.items()):
                for entry in list(part.entries.values()):
                    key = EntryKey(digest, entry.prompt)
                    if holder in entry.holders and key not in held:
                        self._forget(key, holder)
            for key, ks in held.items():
                entry_or_none = self._entry(key)
                if entry_or_none is None:
                    unknown.append(key)
                else:
                    entry_or_none.holders[holder] = ks
                    self._parts[key.partition].changed = True
        return unknown

    def count_use(self, key: EntryKey) -> None:
        """Count a request that started from the entry."""
        with self._lock:
            entry = self._entry(key)
            if entry is not None:
                entry.uses += 1
                self._parts[key.partition].changed = True

    def purge(self, selection: Selection) -> int:
        """Drop the selected entries and return how many there were."""
        dropped = 0
        with self._lock:
            for digest, part in list(self._parts.items()):
                for label, entry in list(part.entries.items()):
                    if selection.matches(entry.owner, digest, entry.created_unix_s):
                        self._remove(digest, label)
                        dropped += 1
        return dropped

    def partitions(self) -> dict[Partition, int]:
        """Return the number of entries by partition."""
        with self._lock:
            return {part.partition: len(part.entries) for part in self._parts.values()}

    def entries(self) -> Iterator[IndexedEntry]:
        """Yield everything, the vectors as they are stored."""
        with self._lock:
            found = [
                IndexedEntry(
                    part.partition,
                    EntryKey(digest, entry.prompt),
                    entry.owner,
                    entry.created_unix_s,
                    entry.uses,
                    dict(entry.holders),
                    np.asarray(part.graph.get(label), dtype=np.float32),
                )
                for digest, part in self._parts.items()
                for label, entry in part.entries.items()
            ]
        yield from found

    def save(self) -> None:
        """Write the partitions that changed; a crash on the way leaves the last save in force.

        Look-ups wait while one partition's graph is written, not for the disk.

        Raises:
            OSError: the folder cannot be written; the last save is still in force.
        """
        with self._save_lock:
            if self._folder is not None:
                self._save_into(self._folder)

    def close(self) -> None:
        """Save if possible, and let go of the files; what is in memory can still be read."""
        with self._save_lock:
            folder, self._folder = self._folder, None
            if folder is None:
                return
            try:
                self._save_into(folder)
            except OSError as error:
                log.warning("the index is not saved: %s", error)
            finally:
                folder.close()

    def _save_into(self, folder: IndexFolder) -> None:
        with self._lock:
            parts = list(self._parts.values())
        for part in parts:
            with self._lock:
                if not part.changed:
                    continue
                generation = folder.write_graph(part.partition.digest, part.graph.save)
                entries = part.copied()
                part.changed = False
            try:
                graph = folder.write_entries(part.partition, generation, entries)
            except OSError:
                part.changed = True
                raise
            with self._lock:
                # The commit removes the file that was mapped before.
                if part.mapped is not None:
                    part.mapped = graph
        folder.commit({part.partition.digest for part in parts})

    def _new_graph(self) -> Graph:
        return Graph(ndim=self.embedder.dimension, metric="cos", dtype=DTYPES[self._dtype])

    def _entry(self, key: EntryKey) -> SavedEntry | None:
        part = self._parts.get(key.partition)
        label = None if part is None else part.labels.get(key.prompt)
        return None if part is None or label is None else part.entries[label]

    def _forget(self, key: EntryKey, holder: str) -> None:
        entry = self._entry(key)
        if entry is None or entry.holders.pop(holder, None) is None:
            return
        part = self._parts[key.partition]
        part.changed = True
        if not entry.holders:
            self._remove(key.partition, part.labels[key.prompt])

    def _remove(self, digest: str, label: int) -> None:
        part = self._parts[digest]
        part.remove(label)
        if not part.entries:
            del self._parts[digest]
