"""What finds the nearest entry to a prompt. Two back ends implement it, one test holds both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from argus.cache.keys import EntryKey, Partition
from argus.cache.store import Selection
from argus.errors import FailedPreconditionError, InvalidArgumentError

Vector = NDArray[np.float32]
SERVER = "@server"
"""Holder of what every node can read from the server's store. No node has such a name."""


@dataclass(frozen=True, slots=True)
class EmbedderId:
    """What made the vectors of an index; vectors of two embedders cannot be compared."""

    name: str
    dimension: int


@dataclass(frozen=True, slots=True)
class Neighbour:
    """The entry nearest to a prompt: cosine similarity, uses, and the K that each holder has."""

    key: EntryKey
    similarity: float
    uses: int
    holders: Mapping[str, tuple[int, ...]]

    @property
    def ks(self) -> tuple[int, ...]:
        """Every stored K, ascending, wherever it is."""
        return tuple(sorted({k for held in self.holders.values() for k in held}))

    def holders_of(self, k: int) -> tuple[str, ...]:
        """Return who has the state before step `k`."""
        return tuple(holder for holder, ks in self.holders.items() if k in ks)


@dataclass(frozen=True, slots=True)
class IndexedEntry:
    """An entry as the index knows it, for export and for statistics."""

    partition: Partition
    key: EntryKey
    owner: str
    created_unix_s: float
    uses: int
    holders: Mapping[str, tuple[int, ...]]
    vector: Vector


@dataclass(slots=True)
class IndexCounts:
    """What happened in an index since it was opened."""

    lookups: int = 0
    empty: int = 0
    """Look-ups in a partition without entries."""
    errors: int = 0
    """Calls that failed: the server's absence, mostly."""

    def as_dict(self) -> dict[str, int]:
        """Return the counts by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


class Index(Protocol):
    """Entries by partition and embedding.

    An entry lives as long as somebody holds states of it. A back end that cannot be reached finds
    nothing and records nothing; it counts that and does not raise.
    """

    @property
    def embedder(self) -> EmbedderId:
        """What made the vectors."""
        ...

    @property
    def counts(self) -> IndexCounts:
        """What happened so far."""
        ...

    def nearest(self, partition: Partition, vector: Vector) -> Neighbour | None:
        """Return the entry of the partition with the highest cosine similarity, or None.

        Raises:
            InvalidArgumentError: the vector is not of the embedder's dimension, or not finite.
        """
        ...

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
        """Note that a holder has states of an entry, in place of what it had of it before.

        Raises:
            InvalidArgumentError: the key is not of that partition, there is no K, or the vector
                is not of the embedder's dimension, not finite, or zero.
        """
        ...

    def forget(self, key: EntryKey, holder: str) -> None:
        """Note that a holder has nothing of an entry any more."""
        ...

    def reconcile(
        self, holder: str, held: Mapping[EntryKey, tuple[int, ...]]
    ) -> list[EntryKey] | None:
        """Note all that a holder has, forget what it has not; return the entries not in the index.

        A node says what it found on its disk when it joins. What is returned cannot be found by
        anyone, since its vector is lost; the node may delete it. None: the back end cannot be
        reached, and nothing was noted.
        """
        ...

    def count_use(self, key: EntryKey) -> None:
        """Count a request that started from the entry."""
        ...

    def purge(self, selection: Selection) -> int:
        """Drop the selected entries and return how many there were."""
        ...

    def partitions(self) -> dict[Partition, int]:
        """Return the number of entries by partition."""
        ...

    def entries(self) -> Iterator[IndexedEntry]:
        """Yield everything, in no order."""
        ...

    def close(self) -> None:
        """Save what must be saved and let go of files and connections."""
        ...


def check_vector(vector: Vector, embedder: EmbedderId) -> Vector:
    """Return the vector scaled to length 1.

    Raises:
        InvalidArgumentError: it is not of the embedder's dimension, not finite, or zero.
    """
    if vector.shape != (embedder.dimension,):
        raise InvalidArgumentError(
            "vector", f"must have shape ({embedder.dimension},), not {vector.shape}"
        )
    length = float(np.linalg.norm(vector))
    if not np.isfinite(length) or length == 0.0:
        raise InvalidArgumentError("vector", "must be finite and not zero")
    return np.asarray(vector / length, dtype=np.float32)


def check_entry(partition: Partition, key: EntryKey, ks: Iterable[int]) -> tuple[int, ...]:
    """Return the K in ascending order.

    Raises:
        InvalidArgumentError: the key is not of that partition, or a K cannot be.
    """
    if key.partition != partition.digest:
        raise InvalidArgumentError("key", f"is not of the partition {partition.digest}")
    ordered = tuple(sorted(set(ks)))
    if not ordered or not 0 < ordered[0] <= ordered[-1] < partition.steps:
        raise InvalidArgumentError(
            "ks", f"at least one within 1 … {partition.steps - 1} is needed, not {ordered}"
        )
    return ordered


def check_embedder(found: EmbedderId, wanted: EmbedderId, where: str) -> None:
    """Raise FailedPreconditionError when an index was made by another embedder."""
    if found != wanted:
        raise FailedPreconditionError(
            f"{where}: made by the embedder {found.name} ({found.dimension} dimensions), which "
            f"{wanted.name} ({wanted.dimension}) cannot be compared with; use that one or another "
            "folder or database"
        )
