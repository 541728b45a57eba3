"""What an operator does to a cache folder, also while nodes have it open.

A node that finds a file gone counts a miss and tells the coordinator; nothing here needs a lock.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from argus.cache.codec import CorruptStateError, decode
from argus.cache.entry_files import SUFFIX, check_name, read_header
from argus.cache.state import EntryInfo
from argus.cache.store import Selection
from argus.errors import NotFoundError


@dataclass(frozen=True, slots=True)
class FolderStats:
    """What one node's folder holds; bytes as tensors."""

    node: str
    entries: int
    nbytes: int
    by_owner: dict[str, int]
    by_partition: dict[str, int]
    by_k: dict[int, int]
    oldest_unix_s: float | None
    unreadable: int
    """Files with a damaged header; `verify_folder` names them."""


@dataclass(frozen=True, slots=True)
class Verified:
    """Files that were read whole and compared with their checksums."""

    good: int
    damaged: tuple[tuple[Path, str], ...]
    """Path and what is wrong with it."""


def folder_stats(root: Path) -> tuple[FolderStats, ...]:
    """Return what each node's folder below `root` holds, from the headers alone.

    Raises:
        NotFoundError: there is no such folder.
    """
    return tuple(_stats_of(folder) for folder in _node_folders(root))


def verify_folder(root: Path, *, remove: bool = False) -> Verified:
    """Read every file below `root` and check all of it.

    Args:
        remove: whether to delete what is damaged.

    Raises:
        NotFoundError: there is no such folder.
        OSError: a damaged file cannot be deleted.
    """
    good = 0
    damaged: list[tuple[Path, str]] = []
    for path in _files(root):
        try:
            check_name(path, decode(memoryview(path.read_bytes())).key)
            good += 1
        except FileNotFoundError:
            # Evicted since it was listed.
            continue
        except (OSError, CorruptStateError) as error:
            damaged.append((path, str(error)))
            if remove:
                path.unlink(missing_ok=True)
    return Verified(good, tuple(damaged))


def purge_folder(root: Path, selection: Selection) -> int:
    """Delete the selected entries of all nodes below `root`; return how many files went.

    Files with a damaged header cannot be told apart and are left to `verify_folder`.

    Raises:
        NotFoundError: there is no such folder.
        OSError: a file cannot be deleted.
    """
    gone = 0
    for path in _files(root):
        info = _info(path)
        if info is not None and selection.covers(info):
            path.unlink(missing_ok=True)
            gone += 1
    return gone


def _stats_of(folder: Path) -> FolderStats:
    infos = [_info(path) for path in folder.rglob(f"*{SUFFIX}")]
    known = [info for info in infos if info is not None]
    by_owner: dict[str, int] = {}
    by_partition: dict[str, int] = {}
    by_k: dict[int, int] = {}
    for info in known:
        by_owner[info.owner] = by_owner.get(info.owner, 0) + 1
        by_partition[info.key.partition] = by_partition.get(info.key.partition, 0) + 1
        for k in info.ks:
            by_k[k] = by_k.get(k, 0) + 1
    return FolderStats(
        node=folder.name,
        entries=len(known),
        nbytes=sum(info.nbytes for info in known),
        by_owner=by_owner,
        by_partition=by_partition,
        by_k=dict(sorted(by_k.items())),
        oldest_unix_s=min((info.created_unix_s for info in known), default=None),
        unreadable=len(infos) - len(known),
    )


def _info(path: Path) -> EntryInfo | None:
    try:
        return read_header(path).info
    except (OSError, CorruptStateError):
        return None


def _node_folders(root: Path) -> list[Path]:
    if not root.is_dir():
        raise NotFoundError("root", str(root), [])
    # A node's name does not begin with a dot; the coordinator's index lies in a folder that does.
    found = (path for path in root.iterdir() if path.is_dir())
    return sorted(path for path in found if not path.name.startswith("."))


def _files(root: Path) -> Iterator[Path]:
    for folder in _node_folders(root):
        yield from sorted(folder.rglob(f"*{SUFFIX}"))
