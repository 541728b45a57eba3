"""States in local files: one file an entry, below one folder a node.

A file is written under a temporary name and renamed, so no reader ever finds half of one, also
after `kill -9`. It is not synced to the disk by default: a power cut may lose or tear the newest
files, the checksums find the torn ones, and a lost one is only a miss. Reads are mapped and
verified before anything is returned.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from argus.cache.codec import CorruptStateError, decode, encode
from argus.cache.entry_files import (
    SUFFIX,
    TEMPORARY,
    entry_path,
    node_folder,
    read_header,
    read_state,
)
from argus.cache.folder_lock import FolderLock
from argus.cache.keys import EntryKey
from argus.cache.ledger import Ledger, Uses
from argus.cache.state import EntryInfo, EntryRecord, StoredState
from argus.cache.store import EntryGone, Selection, StoreCounts, Usage, nobody

log = logging.getLogger(__name__)

_USES = "uses.json"


class FileStore:
    """One node's folder within a byte budget. Safe for several threads.

    Opening it drops what an earlier process left half done and what has a damaged header, and
    takes up the rest; one process at a time may have a folder open.

    Args:
        root: the cache's folder on this machine, made if needed.
        node: this node's name.
        ledger: an empty account.
        sync: whether each file is synced to the disk before it counts.
        on_gone: told of every entry dropped.

    Raises:
        FailedPreconditionError: another process has the folder open.
        InvalidArgumentError: the name cannot be that of a folder.
        OSError: the folder cannot be made or listed.
    """

    tier = "local"

    def __init__(
        self,
        root: Path,
        node: str,
        ledger: Ledger,
        *,
        sync: bool = False,
        on_gone: EntryGone = nobody,
    ) -> None:
        self.counts = StoreCounts()
        self.folder = node_folder(root, node)
        self._ledger = ledger
        self._sync = sync
        self._on_gone = on_gone
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._folder_lock = FolderLock(self.folder)
        self._take_up()

    def get(self, key: EntryKey, k: int) -> StoredState | None:
        """Return a verified state, mapped, and count the use, or None."""
        with self._lock:
            held = key in self._ledger
            late = held and self._ledger.expired(key)
        if late:
            self._drop(key)
            self.counts.expired += 1
        if not held or late:
            self.counts.misses += 1
            return None
        try:
            state = read_state(entry_path(self.folder, key), key, k)
        except FileNotFoundError:
            self.counts.misses += 1
            self._drop(key)
            return None
        except CorruptStateError as error:
            self.counts.corrupt += 1
            log.warning("dropped a corrupt cache file: %s: %s", key, error)
            self._drop(key)
            return None
        except OSError as error:
            self.counts.read_errors += 1
            log.warning("cannot read a cache file: %s", error)
            return None
        if state is None:
            self.counts.misses += 1
            return None
        self.counts.hits += 1
        self.count_use(key, k)
        return state

    def put(self, record: EntryRecord) -> bool:
        """Write an entry's file, replacing an older one; return whether it is there."""
        info = record.info
        if not self._ledger.fits(info.nbytes):
            self.counts.write_errors += 1
            return False
        path = entry_path(self.folder, info.key)
        temporary = path.with_name(f".{info.key.prompt}.{next(self._numbers)}{TEMPORARY}")
        try:
            self._write(temporary, record)
            temporary.replace(path)
        except OSError as error:
            self.counts.write_errors += 1
            log.warning("cannot write a cache file: %s", error)
            self._remove_quietly(temporary)
            return False
        with self._lock:
            victims = self._ledger.add(info, age_s=max(0.0, time.time() - info.created_unix_s))
            self.counts.writes += 1
            self.counts.evicted += len(victims)
        for victim in victims:
            self._remove_quietly(entry_path(self.folder, victim))
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

    def read(self, key: EntryKey) -> EntryRecord | None:
        """Return a whole entry, verified, or None; this is no use of it."""
        try:
            return decode(memoryview(entry_path(self.folder, key).read_bytes()))
        except (OSError, CorruptStateError):
            return None

    def delete(self, key: EntryKey) -> bool:
        """Drop an entry; return whether it was held."""
        with self._lock:
            held = self._ledger.drop(key)
        self._remove_quietly(entry_path(self.folder, key))
        return held

    def purge(self, selection: Selection) -> int:
        """Drop the selected entries and return how many there were."""
        chosen = [info.key for info in self.entries() if selection.covers(info)]
        return sum(self._drop(key) for key in chosen)

    def expire(self) -> int:
        """Drop the entries whose time is over and return how many there were."""
        with self._lock:
            late = self._ledger.all_expired()
        dropped = sum(self._drop(key) for key in late)
        self.counts.expired += dropped
        return dropped

    def usage(self) -> Usage:
        """Return what is held."""
        with self._lock:
            return Usage(len(self._ledger), self._ledger.bytes_used, self._ledger.budget_bytes)

    def close(self) -> None:
        """Write the uses down for the next start and give the folder free."""
        with self._lock:
            uses = {}
            for info in self._ledger:
                counted = self._ledger.uses(info.key)
                if counted.count:
                    uses[str(info.key)] = (counted.count, counted.benefit)
        temporary = self.folder / f"{_USES}{TEMPORARY}"
        try:
            temporary.write_text(json.dumps(uses), encoding="utf-8")
            temporary.replace(self.folder / _USES)
        except OSError as error:
            log.warning("the uses of cache entries are not remembered: %s", error)
            self._remove_quietly(temporary)
        self._folder_lock.release()

    def _write(self, path: Path, record: EntryRecord) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for piece in encode(record):
                file.write(piece)
            if self._sync:
                file.flush()
                os.fsync(file.fileno())

    def _drop(self, key: EntryKey) -> bool:
        held = self.delete(key)
        if held:
            self._on_gone(key)
        return held

    def _remove_quietly(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("cannot remove a cache file: %s", error)

    def _take_up(self) -> None:
        """Account for the files of an earlier process, the longest unused first."""
        uses = self._remembered_uses()
        found: list[tuple[float, EntryInfo]] = []
        for path in self.folder.rglob("*"):
            if path.name.endswith(TEMPORARY):
                self._remove_quietly(path)
            elif path.suffix == SUFFIX:
                try:
                    found.append((path.stat().st_mtime, read_header(path).info))
                except (OSError, CorruptStateError) as error:
                    self.counts.corrupt += 1
                    log.warning("dropped a damaged cache file: %s: %s", path.name, error)
                    self._remove_quietly(path)
        now_unix_s = time.time()
        for _, info in sorted(found, key=lambda pair: pair[0]):
            age_s = max(0.0, now_unix_s - info.created_unix_s)
            for victim in self._ledger.add(info, uses.get(str(info.key)), age_s):
                self._remove_quietly(entry_path(self.folder, victim))
                self.counts.evicted += 1

    def _remembered_uses(self) -> dict[str, Uses]:
        try:
            lines = json.loads((self.folder / _USES).read_text(encoding="utf-8"))
            return {
                key: Uses(int(count), float(benefit)) for key, (count, benefit) in lines.items()
            }
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            log.warning("the uses of cache entries are lost: %s", error)
            return {}
