"""What keeps states, and what is counted about it. Three tiers implement it, one test holds all.

A store never raises because of what it stores on: a missing, late, corrupt or unreachable state
is None, a failed write is False, and both are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Protocol

from argus.cache.keys import EntryKey
from argus.cache.state import EntryInfo, EntryRecord, StoredState

EntryGone = Callable[[EntryKey], None]
"""Told of every entry that a store dropped: evicted, expired, corrupt, or purged."""


def nobody(key: EntryKey) -> None:
    """Listen to nothing."""


@dataclass(slots=True)
class StoreCounts:
    """What happened in a store since it was opened."""

    hits: int = 0
    misses: int = 0
    corrupt: int = 0
    """Reads that found other bytes than were written."""
    read_errors: int = 0
    """Reads that failed, the server's absence among them."""
    writes: int = 0
    write_errors: int = 0
    """Writes that failed: no space, no server, an entry larger than the budget."""
    evicted: int = 0
    expired: int = 0

    def as_dict(self) -> dict[str, int]:
        """Return the counts by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True)
class Usage:
    """What a store holds."""

    entries: int
    nbytes: int
    budget_bytes: int


@dataclass(frozen=True, slots=True)
class Selection:
    """Which entries to purge. All that is given must hold; nothing given selects everything."""

    owner: str | None = None
    partition: str | None = None
    """Digest of a partition."""
    created_before_unix_s: float | None = None

    def covers(self, info: EntryInfo) -> bool:
        """Whether an entry is selected."""
        return self.matches(info.owner, info.key.partition, info.created_unix_s)

    def matches(self, owner: str, partition: str, created_unix_s: float) -> bool:
        """Whether an entry of that owner, partition (digest) and time is selected."""
        before = self.created_before_unix_s
        return (
            self.owner in (None, owner)
            and self.partition in (None, partition)
            and (before is None or created_unix_s < before)
        )


class StateSource(Protocol):
    """Where a state can be read."""

    @property
    def tier(self) -> str:
        """Name of the tier for metrics and the planner."""
        ...

    @property
    def counts(self) -> StoreCounts:
        """What happened so far."""
        ...

    def get(self, key: EntryKey, k: int) -> StoredState | None:
        """Return a verified state and count the use, or None."""
        ...


class StateStore(StateSource, Protocol):
    """Where states are kept within a budget."""

    def put(self, record: EntryRecord) -> bool:
        """Keep an entry, replacing an older one; return whether it was kept.

        Raises:
            InvalidArgumentError: the record holds no state, or one whose K it cannot have.
        """
        ...

    def count_use(self, key: EntryKey, k: int) -> None:
        """Count a use that another tier served, so that eviction knows of it."""
        ...

    def entries(self) -> Iterator[EntryInfo]:
        """Yield what is held, in no order."""
        ...

    def delete(self, key: EntryKey) -> bool:
        """Drop an entry; return whether it was held. The listener is not told."""
        ...

    def purge(self, selection: Selection) -> int:
        """Drop the selected entries, tell the listener, and return how many there were."""
        ...

    def expire(self) -> int:
        """Drop the entries whose time is over and return how many there were."""
        ...

    def usage(self) -> Usage:
        """Return what is held."""
        ...

    def close(self) -> None:
        """Write down what a restart should know and let go of files and connections."""
        ...
