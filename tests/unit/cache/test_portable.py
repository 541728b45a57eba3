from __future__ import annotations

import math
import zipfile
from pathlib import Path

import numpy as np
import pytest

from argus.cache.files import FileStore
from argus.cache.index import EmbedderId
from argus.cache.index_embedded import EmbeddedIndex
from argus.cache.ledger import Ledger, Policy
from argus.cache.portable import export_cache, import_cache
from argus.clock import ManualClock
from argus.errors import FailedPreconditionError, InvalidArgumentError
from tests.unit.cache.build import OTHER, PARTITION, STATE_BYTES, key, record, unit

EMBEDDER = EmbedderId("test@1", 16)


def store(root: Path, states: int = 1000) -> FileStore:
    account = Ledger(states * STATE_BYTES, Policy.LRU, math.inf, ManualClock())
    return FileStore(root, "node-1", account)


def exported(tmp_path: Path, path: Path) -> int:
    index, files = EmbeddedIndex(EMBEDDER), store(tmp_path / "from")
    for seed, (name, partition) in enumerate([("a", PARTITION), ("b", OTHER), ("c", PARTITION)]):
        entry = record(name, partition=partition, owner=f"t{seed}", seed=seed)
        index.record(
            partition, entry.key, unit(seed), "node-1", (5, 10),
            owner=entry.owner, created_unix_s=entry.created_unix_s,
        )  # fmt: skip
        if name != "c":
            files.put(entry)
    count = export_cache(path, index, files.read)
    files.close()
    return count


def test_what_is_exported_is_found_where_it_is_imported(tmp_path: Path) -> None:
    path = tmp_path / "cache.zip"
    assert exported(tmp_path, path) == 2
    index, files = EmbeddedIndex(EMBEDDER), store(tmp_path / "to")
    assert import_cache(path, index, files, "node-7") == (2, 0)
    for seed, (name, partition) in enumerate([("a", PARTITION), ("b", OTHER)]):
        found = index.nearest(partition, unit(seed))
        assert found is not None
        assert found.key == key(name, partition)
        assert dict(found.holders) == {"node-7": (5, 10)}
        back = files.read(found.key)
        original = record(name, partition=partition, owner=f"t{seed}", seed=seed)
        assert back is not None
        assert back.info == original.info
        assert bytes(back.states[10].data) == bytes(original.states[10].data)
    vectors = {entry.key: entry.vector for entry in index.entries()}
    np.testing.assert_allclose(vectors[key("a")], unit(0), atol=1e-3)
    assert {entry.owner for entry in index.entries()} == {"t0", "t1"}
    files.close()


def test_a_damaged_entry_is_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "cache.zip"
    exported(tmp_path, path)
    with zipfile.ZipFile(path) as archive:
        offset = archive.getinfo(f"states/{key('a')}").header_offset
    data = bytearray(path.read_bytes())
    data[offset + 900] ^= 1
    path.write_bytes(data)
    index, files = EmbeddedIndex(EMBEDDER), store(tmp_path / "to")
    assert import_cache(path, index, files, "node-7") == (1, 1)
    assert [entry.key for entry in index.entries()] == [key("b", OTHER)]
    files.close()


def test_what_does_not_fit_is_not_recorded(tmp_path: Path) -> None:
    path = tmp_path / "cache.zip"
    exported(tmp_path, path)
    index, files = EmbeddedIndex(EMBEDDER), store(tmp_path / "to", states=1)
    assert import_cache(path, index, files, "node-7") == (0, 0)
    assert index.partitions() == {}
    files.close()


def test_the_file_of_another_embedder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cache.zip"
    exported(tmp_path, path)
    files = store(tmp_path / "to")
    with pytest.raises(FailedPreconditionError, match="test@1"):
        import_cache(path, EmbeddedIndex(EmbedderId("test@2", 16)), files, "node-7")
    assert files.usage().entries == 0
    files.close()


@pytest.mark.parametrize("content", [b"", b"PK nothing", None])
def test_what_is_no_exported_cache_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.zip"
    if content is None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("other.txt", "x")
    else:
        path.write_bytes(content)
    files = store(tmp_path / "to")
    with pytest.raises(InvalidArgumentError, match="not an exported cache"):
        import_cache(path, EmbeddedIndex(EMBEDDER), files, "node-7")
    files.close()
