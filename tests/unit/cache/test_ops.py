from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from argus.cache.entry_files import entry_path
from argus.cache.files import FileStore
from argus.cache.keys import EntryKey
from argus.cache.ledger import Ledger, Policy
from argus.cache.ops import folder_stats, purge_folder, verify_folder
from argus.cache.store import Selection
from argus.clock import ManualClock
from argus.errors import NotFoundError
from tests.unit.cache.build import OTHER, PARTITION, STATE_BYTES, key, record


@pytest.fixture
def node(tmp_path: Path) -> Iterator[FileStore]:
    """A node that has its folder open while the operator works."""
    gone: list[EntryKey] = []
    account = Ledger(10**9, Policy.LRU, math.inf, ManualClock())
    store = FileStore(tmp_path, "node-1", account, on_gone=gone.append)
    store.put(record("a", (5, 10), owner="t1", created_unix_s=10.0))
    store.put(record("b", (5,), owner="t2", created_unix_s=20.0))
    store.put(record("c", (5, 25), owner="t2", created_unix_s=30.0, partition=OTHER))
    yield store
    store.close()


def test_stats_are_what_was_put(node: FileStore, tmp_path: Path) -> None:
    (tmp_path / "node-2").mkdir()
    first, second = folder_stats(tmp_path)
    assert (first.node, first.entries, first.nbytes) == ("node-1", 3, 5 * STATE_BYTES)
    assert first.by_owner == {"t1": 1, "t2": 2}
    assert first.by_partition == {PARTITION.digest: 2, OTHER.digest: 1}
    assert first.by_k == {5: 3, 10: 1, 25: 1}
    assert first.oldest_unix_s == 10.0
    assert (second.entries, second.oldest_unix_s, second.unreadable) == (0, None, 0)


def test_verifying_names_what_is_damaged_and_removes_it_when_told(
    node: FileStore, tmp_path: Path
) -> None:
    path = entry_path(node.folder, key("b"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    swapped = entry_path(node.folder, key("c", OTHER))
    swapped.write_bytes(entry_path(node.folder, key("a")).read_bytes())
    found = verify_folder(tmp_path)
    assert found.good == 1
    assert {p for p, _ in found.damaged} == {path, swapped}
    assert "checksum" in dict(found.damaged)[path]
    assert folder_stats(tmp_path)[0].unreadable == 1
    verify_folder(tmp_path, remove=True)
    assert verify_folder(tmp_path).damaged == ()
    assert node.get(key("b"), 5) is None
    assert node.get(key("a"), 5) is not None
    assert node.counts.corrupt == 0


@pytest.mark.parametrize(
    ("selection", "left"),
    [
        (Selection(owner="t2"), {"a"}),
        (Selection(partition=OTHER.digest), {"a", "b"}),
        (Selection(created_before_unix_s=25.0), {"c"}),
        (Selection(), set()),
    ],
)
def test_purging_under_a_running_node_makes_misses(
    node: FileStore, tmp_path: Path, selection: Selection, left: set[str]
) -> None:
    assert purge_folder(tmp_path, selection) == 3 - len(left)
    names = {"a": key("a"), "b": key("b"), "c": key("c", OTHER)}
    assert {name for name, k in names.items() if node.get(k, 5) is not None} == left
    assert node.usage().entries == len(left)


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    for ask in (folder_stats, verify_folder):
        with pytest.raises(NotFoundError, match="nowhere"):
            ask(tmp_path / "nowhere")
    with pytest.raises(NotFoundError, match="nowhere"):
        purge_folder(tmp_path / "nowhere", Selection())
