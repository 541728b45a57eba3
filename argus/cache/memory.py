"""States in host memory: the hot front of a node."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from argus.cache.keys import EntryKey
from argus.cache.ledger import Ledger
from argus.cache.state import EntryInfo, EntryRecord, State, StoredState
from argus.cache.store import EntryGone, Selection, StoreCounts, Usage, nobody

log = logging.getLogger(__name__)

Allocate = Callable[[int], memoryview]
"""Gives a writable buffer of so many bytes, which lives as long as a view of it. A node with a
GPU gives pinned memory, from which a copy to the device needs no second copy on the host; torch's
pinned allocator keeps freed blocks, so giving anew for each state is cheap."""


def pageable(nbytes: int) -> memoryview:
    """Allocate ordinary memory."""
    return memoryview(bytearray(nbytes))


class MemoryStore:
    """Copies of states within a byte budget. Safe for several threads.

    A buffer is let go when the last reader does: evicting a state never takes it from a row that
    is about to start from it.
    """

    tier = "memory"

    def __init__(
        self, ledger: Ledger, allocate: Allocate = pageable, on_gone: EntryGone = nobody
    ) -> None:
        self.counts = StoreCounts()
        self._ledger = ledger
        self._allocate = allocate
        self._on_gone = on_gone
        self._lock = threading.Lock()
        self._states: dict[EntryKey, dict[int, State]] = {}

    def get(self, key: EntryKey, k: int) -> StoredState | None:
        """Return a held state and count the use, or None."""
        found = None
        with self._lock:
            gone = self._drop_if_expired(key)
            state = None if gone else self._states.get(key, {}).get(k)
            if state is None:
                self.counts.misses += 1
            else:
                self.counts.hits += 1
                self._ledger.use(key, k)
                found = StoredState(state, self._ledger.info(key))
        if gone:
            self._on_gone(key)
        return found

    def put(self, record: EntryRecord) -> bool:
        """Copy the states of an entry; those of other K that are held of it stay."""
        info = record.info
        try:
            copies = {k: self._copy(state) for k, state in record.states.items()}
        except (MemoryError, RuntimeError) as error:
            # torch says RuntimeError when there is no pinned memory left.
            self.counts.write_errors += 1
            log.warning("no memory for a cached state: %s", error)
            return False
        with self._lock:
            states = self._states.get(info.key, {}) | copies
            nbytes = sum(state.nbytes for state in states.values())
            if not self._ledger.fits(nbytes):
                self.counts.write_errors += 1
                return False
            whole = replace(info, ks=tuple(sorted(states)), nbytes=nbytes)
            victims = self._ledger.add(whole, age_s=max(0.0, time.time() - info.created_unix_s))
            self._states[info.key] = states
            self.counts.writes += 1
            for victim in victims:
                del self._states[victim]
            self.counts.evicted += len(victims)
        for victim in victims:
            self._on_gone(victim)
        return True

    def count_use(self, key: EntryKey, k: int) -> None:
        """Count a use that another tier served."""
        with self._lock:
            if key in self._ledger:
                self._ledger.use(key, k)

    def entries(self) -> Iterator[EntryInfo]:
        """Yield what is held."""
        with self._lock:
            held = list(self._ledger)
        yield from held

    def delete(self, key: EntryKey) -> bool:
        """Drop an entry; return whether it was held."""
        with self._lock:
            self._states.pop(key, None)
            return self._ledger.drop(key)

    def purge(self, selection: Selection) -> int:
        """Drop the selected entries and return how many there were."""
        chosen = [info.key for info in self.entries() if selection.covers(info)]
        dropped = [key for key in chosen if self.delete(key)]
        for key in dropped:
            self._on_gone(key)
        return len(dropped)

    def expire(self) -> int:
        """Drop the entries whose time is over and return how many there were."""
        with self._lock:
            late = self._ledger.all_expired()
            for key in late:
                self._drop_if_expired(key)
        for key in late:
            self._on_gone(key)
        return len(late)

    def usage(self) -> Usage:
        """Return what is held."""
        with self._lock:
            return Usage(len(self._ledger), self._ledger.bytes_used, self._ledger.budget_bytes)

    def close(self) -> None:
        """Let go of everything."""
        with self._lock:
            for info in self._ledger:
                self._ledger.drop(info.key)
            self._states.clear()

    def _copy(self, state: State) -> State:
        buffer = self._allocate(state.nbytes)
        buffer[:] = state.data
        return State.of(buffer, state.shape, state.dtype)

    def _drop_if_expired(self, key: EntryKey) -> bool:
        if key not in self._ledger or not self._ledger.expired(key):
            return False
        self._ledger.drop(key)
        del self._states[key]
        self.counts.expired += 1
        return True
