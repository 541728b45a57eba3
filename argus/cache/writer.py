"""Writes entries in a thread of its own, so that no step waits for a disk or a server."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from argus.cache.state import EntryInfo, EntryRecord
from argus.cache.tiers import TieredStates

log = logging.getLogger(__name__)

OnStored = Callable[[EntryInfo, tuple[str, ...]], None]
"""Told of an entry and the tiers that kept it, in the writer's thread."""


class StateWriter:
    """A bounded queue of entries and the thread that empties it.

    A full queue drops the newest entry and counts it: a lost entry costs a later request some
    steps, a wait would cost every row of the batch now.

    Args:
        states: where to write.
        max_bytes: of tensors in the queue.
        on_stored: told of each entry that at least one tier kept.
    """

    def __init__(self, states: TieredStates, max_bytes: int, on_stored: OnStored) -> None:
        self.written = 0
        self.dropped = 0
        """Entries that found no room, or that no tier kept."""
        self._states = states
        self._max_bytes = max_bytes
        self._on_stored = on_stored
        self._queue: deque[EntryRecord] = deque()
        self._bytes = 0
        self._closed = False
        self._busy = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="cache-writer", daemon=True)
        self._thread.start()

    def offer(self, record: EntryRecord) -> bool:
        """Queue an entry without waiting; return whether there was room.

        The tensors must not change until they are written.

        Raises:
            InvalidArgumentError: the record holds no state, or one whose K it cannot have.
        """
        nbytes = record.info.nbytes
        with self._changed:
            if self._closed or self._bytes + nbytes > self._max_bytes:
                self.dropped += 1
                return False
            self._queue.append(record)
            self._bytes += nbytes
            self._changed.notify_all()
        return True

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until everything offered so far is dealt with; return whether it was in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._queue and not self._busy, timeout_s)

    def close(self, timeout_s: float | None = None) -> bool:
        """Take no more, write what is queued, end the thread; return whether it was in time."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closed)
                if not self._queue:
                    return
                record = self._queue.popleft()
                self._busy = True
            self._write(record)
            with self._changed:
                self._bytes -= record.info.nbytes
                self._busy = False
                self._changed.notify_all()

    def _write(self, record: EntryRecord) -> None:
        try:
            tiers = self._states.put(record)
            if tiers:
                self._on_stored(record.info, tiers)
        # Whatever went wrong with one entry, the thread must live to write the next.
        except Exception:
            log.exception("an entry of the cache was not written")
            tiers = ()
        self.written += bool(tiers)
        self.dropped += not tiers
