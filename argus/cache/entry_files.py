"""Where an entry's file lies and how it is read.

ROOT/NODE/PARTITION/PP/PROMPT.states    (PP: first two digits of PROMPT)
"""

from __future__ import annotations

import errno
import mmap
import os
import re
from pathlib import Path

from argus.cache.codec import HEAD_BYTES, CorruptStateError, Header, decode_header, decode_state
from argus.cache.keys import EntryKey
from argus.cache.state import StoredState
from argus.errors import InvalidArgumentError

SUFFIX = ".states"
TEMPORARY = ".tmp"
_NODE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_POPULATE_READ = 22
"""MADV_POPULATE_READ of Linux; Python's mmap does not name it."""


def entry_path(folder: Path, key: EntryKey) -> Path:
    """Return where an entry lies below a node's folder."""
    return folder / key.partition / key.prompt[:2] / f"{key.prompt}{SUFFIX}"


def node_folder(root: Path, node: str) -> Path:
    """Return the folder of a node.

    Raises:
        InvalidArgumentError: the name cannot be that of a folder.
    """
    if not _NODE_NAME.fullmatch(node):
        raise InvalidArgumentError("node", f"cannot be the name of a folder: {node!r}")
    return root / node


def read_header(path: Path) -> Header:
    """Return the checked header of an entry's file without reading its states.

    Raises:
        OSError: it cannot be read.
        CorruptStateError: header, size or name are not what was written.
    """
    with path.open("rb") as file:
        start = file.read(HEAD_BYTES)
        header = decode_header(memoryview(start), os.fstat(file.fileno()).st_size)
    check_name(path, header.info.key)
    return header


def check_name(path: Path, key: EntryKey) -> None:
    """Raise CorruptStateError when a file does not lie where its entry belongs."""
    if path.name != f"{key.prompt}{SUFFIX}" or path.parent.parent.name != key.partition:
        raise CorruptStateError(f"holds the entry {key}")


def read_state(path: Path, key: EntryKey, k: int) -> StoredState | None:
    """Return a verified state, mapped, or None if the entry holds none of that K.

    The mapping lives as long as a view of it.

    Raises:
        OSError: the file cannot be read.
        CorruptStateError: it is not what was written.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        head = memoryview(os.pread(descriptor, HEAD_BYTES, 0))
        header = decode_header(head, os.fstat(descriptor).st_size)
        if header.info.key != key:
            raise CorruptStateError(f"holds the entry {header.info.key}")
        if k not in header.places:
            return None
        mapping = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
    finally:
        os.close(descriptor)
    place = header.places[k]
    populate(mapping, header.start + place.start, place.nbytes)
    return StoredState(decode_state(memoryview(mapping), header, k), header.info)


def populate(mapping: mmap.mmap, start: int, nbytes: int) -> None:
    """Read a part of a mapped file now.

    Touching a page that the disk cannot give would end the process with SIGBUS; asked for in this
    way, it is an error that can be dealt with. Kernels before 5.14 do not know the request.

    Raises:
        OSError: the disk cannot give it, or the file has become shorter.
    """
    first = start - start % mmap.PAGESIZE
    try:
        mapping.madvise(_POPULATE_READ, first, start + nbytes - first)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
