"""An index and the thread that uses it, since its calls may wait for a lock or a server.

An index in this process is saved by a second thread, so that look-ups do not wait for the disk.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from argus.cache.index import Index, Neighbour
from argus.cache.index_embedded import EmbeddedIndex
from argus.cache.keys import EntryKey, Partition
from argus.clock import Clock
from argus.coordinator.entries import Coming

log = logging.getLogger(__name__)

T = TypeVar("T")
SAVE_EVERY = 500
"""Entries recorded between two saves of an index in this process."""
SAVE_AFTER_S = 30.0
"""Seconds between two saves while fewer are recorded."""
CLOSE_S = 5.0
"""The longest that closing is waited for; what is left of it goes on meanwhile."""


class IndexThread:
    """Calls an index in the order in which it is asked to. Must be used inside one event loop.

    Until `open` has succeeded there is nothing in it, and nothing comes into it.

    Args:
        clock: of the saves.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._index: Index | None = None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="argus-index")
        self._saver = ThreadPoolExecutor(1, thread_name_prefix="argus-index-save")
        self._saving: Future[None] | None = None
        self._unsaved = 0
        self._saved_s = clock.now()

    async def open(self, make: Callable[[], Index]) -> None:
        """Take the index that `make` opens; what that raises is passed on."""
        self._index = await self._submit(make)

    @property
    def is_open(self) -> bool:
        """Whether there is an index."""
        return self._index is not None

    async def close(self) -> None:
        """Write the index down and end the thread."""
        if self._index is not None:
            closing = asyncio.wrap_future(self._worker.submit(_logged, _close, self._index))
            _, late = await asyncio.wait([closing], timeout=CLOSE_S)
            if late:
                log.warning("closing the index takes longer than %g s", CLOSE_S)
        self._saver.shutdown(wait=False)
        self._worker.shutdown(wait=False)

    async def entries(self) -> int:
        """Return how many entries there are."""
        index = self._index
        return 0 if index is None else sum((await self._submit(index.partitions)).values())

    async def nearest(self, partition: Partition, vector: NDArray[np.float32]) -> Neighbour | None:
        """Return the entry of the partition that is most similar, or None."""
        index = self._index
        if index is None:
            return None
        return await self._submit(lambda: index.nearest(partition, vector))

    async def record(
        self,
        coming: Coming,
        key: EntryKey,
        vector: NDArray[np.float32],
        holder: str,
        steps: Iterable[int],
    ) -> bool:
        """Note that someone has the states of an entry that was expected.

        Returns:
            Whether it is in the index; not while there is none, or it cannot be reached.

        Raises:
            InvalidArgumentError: the key, the steps or the vector make no sense.
        """
        index = self._index
        if index is None:
            return False
        recorded = await self._submit(
            lambda: index.record(coming.partition, key, vector, holder, steps, owner=coming.owner)
        )
        self._unsaved += recorded
        if isinstance(index, EmbeddedIndex):
            self._save_if_due(index)
        return recorded

    def reconcile(
        self, holder: str, held: Mapping[EntryKey, tuple[int, ...]]
    ) -> asyncio.Future[list[EntryKey] | None]:
        """Note all that someone has; the answer is the entries not in the index, or
        None when it could not be asked.

        It is queued now, not when the answer is awaited: what is said next must come after it.
        """
        index = self._index
        return self._submit(lambda: None if index is None else index.reconcile(holder, held))

    def forget(self, key: EntryKey, holder: str) -> None:
        """Note, without waiting, that someone has nothing of an entry any more."""
        self._later(lambda index: index.forget(key, holder))

    def count_use(self, key: EntryKey) -> None:
        """Count, without waiting, a request that started from an entry."""
        self._later(lambda index: index.count_use(key))

    def _save_if_due(self, index: EmbeddedIndex) -> None:
        now_s = self._clock.now()
        due = self._unsaved >= SAVE_EVERY or now_s - self._saved_s >= SAVE_AFTER_S
        if due and (self._saving is None or self._saving.done()):
            self._unsaved, self._saved_s = 0, now_s
            self._saving = self._saver.submit(_saved, index)

    def _later(self, work: Callable[[Index], object]) -> None:
        if self._index is not None:
            self._worker.submit(_logged, work, self._index)

    def _submit(self, work: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._worker, work)


def _logged(work: Callable[[Index], object], index: Index) -> None:
    try:
        work(index)
    # Nobody waits for the answer; a bug in the index must not pass unseen.
    except Exception:
        log.exception("the index was not changed")


def _close(index: Index) -> None:
    index.close()


def _saved(index: EmbeddedIndex) -> None:
    """Save; on a full or broken disk the last save stays in force."""
    try:
        index.save()
    except OSError as error:
        log.warning("the index was not saved: %s", error)
    except Exception:
        log.exception("the index was not saved")
