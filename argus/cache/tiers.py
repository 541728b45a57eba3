"""A node's view of the store: memory, its own disk, its siblings' disks, the server, in order."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from argus.cache.keys import EntryKey
from argus.cache.memory import MemoryStore
from argus.cache.state import EntryRecord, State
from argus.cache.store import StateSource, StateStore, StoreCounts


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
        sources: where to read after it, in this order.
        stores: where to write besides; those of `sources` that can be written.
    """

    def __init__(
        self,
        memory: MemoryStore,
        sources: Sequence[StateSource] = (),
        stores: Sequence[StateStore] = (),
    ) -> None:
        self._memory = memory
        self._sources = tuple(sources)
        self._stores = tuple(stores)

    def fetch(self, key: EntryKey, k: int, steps: int, owner: str = "") -> Fetched | None:
        """Return the state of an entry before step `k`, or None if no tier has it.

        Args:
            steps: N of the partition.
            owner: tenant to whom the copy in memory belongs.
        """
        start_s = time.perf_counter()
        state = self._memory.get(key, k)
        if state is not None:
            for store in self._near():
                store.count_use(key, k)
            return Fetched(state, self._memory.tier, time.perf_counter() - start_s)
        for source in self._sources:
            state = source.get(key, k)
            if state is not None:
                seconds = time.perf_counter() - start_s
                self._memory.put(EntryRecord(key, steps, owner, time.time(), {k: state}))
                return Fetched(state, source.tier, seconds)
        return None

    def put(self, record: EntryRecord) -> tuple[str, ...]:
        """Write an entry to every tier; return the names of those that kept it."""
        stores: tuple[StateStore, ...] = (self._memory, *self._stores)
        return tuple(store.tier for store in stores if store.put(record))

    def expire(self) -> int:
        """Drop what is too old, everywhere; return how many entries that were."""
        return sum(store.expire() for store in (self._memory, *self._stores))

    def counts(self) -> dict[str, StoreCounts]:
        """Return what happened in each tier."""
        return {source.tier: source.counts for source in (self._memory, *self._sources)}

    def close(self) -> None:
        """Close every tier."""
        for store in (self._memory, *self._stores):
            store.close()

    def _near(self) -> tuple[StateStore, ...]:
        """The written tiers that live on this machine: telling them of a use costs nothing."""
        return tuple(store for store in self._stores if store.tier != "server")
