"""A node's view of the store: memory, its own disk, its siblings' disks, the server, in order."""

from __future__ import annotations

import time
from dataclasses import dataclass

from argus.cache.keys import EntryKey
from argus.cache.memory import MemoryStore
from argus.cache.state import EntryRecord, State, StoredState
from argus.cache.store import Selection, StateSource, StateStore, StoreCounts, Usage


@dataclass(frozen=True, slots=True)
class Fetched:
    """A state with the tier it came from and the seconds that took, misses before it included."""

    state: State
    tier: str
    seconds: float


class TieredStates:
    """Reads from the nearest tier that has a state, writes to all that keep any.

    What comes from further away is copied into memory. Safe for several threads: reads run in
    those that wait for them, writes in the writer's.

    Args:
        memory: the front.
        local: this node's disk.
        siblings: the disks of other nodes on this machine.
        server: what all machines share.
    """

    def __init__(
        self,
        memory: MemoryStore,
        local: StateStore | None = None,
        siblings: StateSource | None = None,
        server: StateStore | None = None,
    ) -> None:
        self._memory = memory
        self._local = local
        self._behind = [source for source in (local, siblings, server) if source is not None]
        self._stores = [memory, *(store for store in (local, server) if store is not None)]

    def fetch(self, key: EntryKey, k: int) -> Fetched | None:
        """Return the state of an entry before step `k`, or None if no tier has it."""
        start_s = time.perf_counter()
        found = self._memory.get(key, k)
        if found is not None:
            seconds = time.perf_counter() - start_s
            if self._local is not None:
                self._local.count_use(key, k)
            return Fetched(found.state, self._memory.tier, seconds)
        for source in self._behind:
            found = source.get(key, k)
            if found is not None:
                seconds = time.perf_counter() - start_s
                self._memory.put(_one_state(found, k))
                return Fetched(found.state, source.tier, seconds)
        return None

    def put(self, record: EntryRecord) -> tuple[str, ...]:
        """Write an entry to every tier; return the names of those that kept it.

        Raises:
            InvalidArgumentError: the record holds no state, or one whose K it cannot have.
        """
        return tuple(store.tier for store in self._stores if store.put(record))

    def purge(self, selection: Selection) -> dict[str, int]:
        """Drop the selected entries; return how many there were by tier."""
        return {store.tier: store.purge(selection) for store in self._stores}

    def expire(self) -> int:
        """Drop what is too old, everywhere; return how many entries that were."""
        return sum(store.expire() for store in self._stores)

    def counts(self) -> dict[str, StoreCounts]:
        """Return what happened in each tier."""
        return {source.tier: source.counts for source in (self._memory, *self._behind)}

    def usage(self) -> dict[str, Usage]:
        """Return what each tier holds."""
        return {store.tier: store.usage() for store in self._stores}

    def close(self) -> None:
        """Close every tier."""
        for store in self._stores:
            store.close()


def _one_state(found: StoredState, k: int) -> EntryRecord:
    info = found.info
    return EntryRecord(info.key, info.steps, info.owner, info.created_unix_s, {k: found.state})
