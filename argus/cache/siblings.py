"""States that other nodes of this machine wrote."""

from __future__ import annotations

import os
from pathlib import Path

from argus.cache.codec import CorruptStateError
from argus.cache.entry_files import entry_path, node_folder, read_state
from argus.cache.keys import EntryKey
from argus.cache.state import StoredState
from argus.cache.store import StoreCounts


class SiblingFiles:
    """The folders of the other nodes on this machine, to read from.

    Entries of theirs are left for them to drop: only their own account knows what is held.
    """

    tier = "sibling"

    def __init__(self, root: Path, node: str) -> None:
        self.counts = StoreCounts()
        self._root = root
        self._own = node_folder(root, node)

    def get(self, key: EntryKey, k: int) -> StoredState | None:
        """Return a verified state from the first folder that has it, mapped, or None."""
        for folder in self._folders():
            try:
                state = read_state(entry_path(folder, key), key, k)
            except FileNotFoundError:
                continue
            except CorruptStateError:
                self.counts.corrupt += 1
                continue
            except OSError:
                self.counts.read_errors += 1
                continue
            if state is not None:
                self.counts.hits += 1
                return state
        self.counts.misses += 1
        return None

    def _folders(self) -> list[Path]:
        try:
            with os.scandir(self._root) as found:
                paths = [Path(entry.path) for entry in found if entry.is_dir()]
        except OSError:
            self.counts.read_errors += 1
            return []
        return sorted(path for path in paths if path != self._own)
