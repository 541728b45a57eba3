"""What only the local files promise: restarts, damage, siblings, and other processes."""

from __future__ import annotations

import errno
import math
import mmap
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from argus.cache.entry_files import entry_path, populate, read_header
from argus.cache.files import FileStore
from argus.cache.keys import EntryKey
from argus.cache.ledger import Ledger, Policy
from argus.cache.siblings import SiblingFiles
from argus.clock import ManualClock
from argus.errors import FailedPreconditionError, InvalidArgumentError
from tests.unit.cache.build import STATE_BYTES, key, record, state

REPOSITORY = Path(__file__).parents[3]


def ledger(states: int = 1000, policy: Policy = Policy.BENEFIT, ttl_s: float = math.inf) -> Ledger:
    return Ledger(states * STATE_BYTES, policy, ttl_s, ManualClock())


def open_store(root: Path, node: str = "node-1", account: Ledger | None = None) -> FileStore:
    return FileStore(root, node, ledger() if account is None else account)


def test_a_restart_finds_entries_uses_and_budget_again(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for name in "abc":
        store.put(record(name))
    for _ in range(4):
        store.get(key("a"), 10)
    store.close()

    again = open_store(tmp_path, account=ledger(states=4))
    assert again.usage().entries == 2
    assert again.get(key("a"), 5) is not None
    again.put(record("d"))
    assert key("a") in {info.key for info in again.entries()}
    again.close()


def test_a_restart_finds_entries_that_are_too_old_expired(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.put(record("old", created_unix_s=time.time() - 100))
    store.put(record("new", created_unix_s=time.time()))
    store.close()
    again = open_store(tmp_path, account=ledger(ttl_s=50))
    assert again.get(key("old"), 5) is None
    assert again.get(key("new"), 5) is not None
    assert not entry_path(tmp_path / "node-1", key("old")).exists()
    again.close()


def test_opening_drops_half_written_and_damaged_files(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for name in "abcd":
        store.put(record(name))
    store.close()
    paths = {name: entry_path(tmp_path / "node-1", key(name)) for name in "abcd"}
    leftover = paths["a"].with_name(".x.1.tmp")
    leftover.write_bytes(b"half")
    with paths["b"].open("r+b") as file:
        file.truncate(300)
    with paths["c"].open("r+b") as file:
        file.write(b"X")
    moved = paths["d"].with_name("0" * 32 + ".states")
    paths["d"].rename(moved)

    again = open_store(tmp_path)
    assert [info.key for info in again.entries()] == [key("a")]
    assert again.counts.corrupt == 3
    left = {path.name for path in (tmp_path / "node-1").rglob("*") if path.is_file()}
    assert left == {paths["a"].name, "lock", "uses.json"}
    again.close()


@pytest.mark.parametrize("where", ["header", "state"])
def test_a_flipped_byte_is_a_miss_and_the_file_goes(tmp_path: Path, where: str) -> None:
    gone: list[EntryKey] = []
    store = FileStore(tmp_path, "node-1", ledger(), on_gone=gone.append)
    store.put(record("a", (5, 10)))
    path = entry_path(store.folder, key("a"))
    data = bytearray(path.read_bytes())
    data[40 if where == "header" else len(data) - 1] ^= 0x10
    path.write_bytes(data)
    assert store.get(key("a"), 10) is None
    assert (store.counts.corrupt, store.counts.hits) == (1, 0)
    assert gone == [key("a")]
    assert not path.exists()
    store.put(record("a", (5, 10)))
    assert store.get(key("a"), 10) is not None
    store.close()


def test_a_deleted_file_is_a_miss_and_is_reported(tmp_path: Path) -> None:
    gone: list[EntryKey] = []
    store = FileStore(tmp_path, "node-1", ledger(), on_gone=gone.append)
    store.put(record("a"))
    entry_path(store.folder, key("a")).unlink()
    assert store.get(key("a"), 5) is None
    assert gone == [key("a")]
    assert store.usage().nbytes == 0
    store.close()


def test_a_mapped_state_outlives_its_file(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.put(record("a", seed=1))
    found = store.get(key("a"), 5)
    store.delete(key("a"))
    store.put(record("a", seed=2))
    assert found is not None
    assert bytes(found.state.data) == bytes(state(1005).data)
    store.close()


def test_a_mapped_file_that_lost_its_pages_is_an_error_and_no_signal(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(4 * mmap.PAGESIZE))
    with path.open("r+b") as file:
        mapping = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        populate(mapping, 5000, 8000)
        file.truncate(0)
    with pytest.raises(OSError, match="Bad address"):
        populate(mapping, 5000, 8000)


def test_siblings_are_read_and_never_touched(tmp_path: Path) -> None:
    one, two = open_store(tmp_path, "node-1"), open_store(tmp_path, "node-2")
    two.put(record("a"))
    one.put(record("own"))
    sibling = SiblingFiles(tmp_path, "node-1")
    found = sibling.get(key("a"), 5)
    assert found is not None
    assert bytes(found.state.data) == bytes(state(5).data)
    assert sibling.get(key("own"), 5) is None
    path = entry_path(two.folder, key("a"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert sibling.get(key("a"), 10) is None
    assert sibling.counts.corrupt == 1
    assert path.exists()
    assert SiblingFiles(tmp_path / "nowhere", "node-1").get(key("a"), 5) is None
    one.close()
    two.close()


def test_a_folder_belongs_to_one_process(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with pytest.raises(FailedPreconditionError, match="another process"):
        open_store(tmp_path)
    store.close()
    open_store(tmp_path).close()


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "-x", "a\0b"])
def test_a_node_that_cannot_be_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="node"):
        open_store(tmp_path, name)


WRITER = """
import itertools, math, sys
from pathlib import Path
from argus.cache.files import FileStore
from argus.cache.ledger import Ledger, Policy
from argus.clock import ManualClock
from tests.unit.cache.build import record

store = FileStore(Path(sys.argv[1]), "node-1", Ledger(60_000, Policy.LRU, math.inf, ManualClock()))
for i in itertools.count():
    name = i % 40
    store.put(record(str(name), (5, 10, 15, 20, 25), seed=name))
    if i == 5:
        print("writing", flush=True)
"""


def test_kill_9_in_the_middle_of_writing_leaves_nothing_corrupt(tmp_path: Path) -> None:
    served = 0
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)],
            stdout=subprocess.PIPE,
            cwd=REPOSITORY,
            env={"PYTHONPATH": "."},
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        process.kill()
        process.wait()
        process.stdout.close()
        store = open_store(tmp_path)
        for info in list(store.entries()):
            name = next(n for n in range(40) if key(str(n)) == info.key)
            for k in info.ks:
                found = store.get(info.key, k)
                assert found is not None
                assert bytes(found.state.data) == bytes(state(1000 * name + k).data)
                served += 1
        assert store.counts.corrupt == 0
        assert not list(store.folder.rglob("*.tmp"))
        store.close()
    assert served > 0


FULL_DISK = """
import math, resource, signal, sys
from pathlib import Path
from argus.cache.files import FileStore
from argus.cache.ledger import Ledger, Policy
from argus.clock import ManualClock
from tests.unit.cache.build import key, record

store = FileStore(Path(sys.argv[1]), "node-1", Ledger(10**9, Policy.LRU, math.inf, ManualClock()))
assert store.put(record("before"))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (700, resource.RLIM_INFINITY))
assert not store.put(record("during"))
assert not store.put(record("before", seed=1))
assert store.get(key("before"), 5) is not None
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert store.put(record("after"))
assert store.get(key("during"), 5) is None
print(store.counts.write_errors, len(list(store.folder.rglob("*.tmp"))))
store.close()
"""


def test_a_write_that_the_system_cuts_short_is_dropped_and_later_ones_work(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={"PYTHONPATH": "."},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2", "0"]
    again = open_store(tmp_path)
    assert {info.key for info in again.entries()} == {key("before"), key("after")}
    again.close()


def test_a_full_disk_drops_writes_until_there_is_room(small_disk: Path) -> None:
    store = open_store(small_disk)
    kept = [i for i in range(40) if store.put(record(str(i), seed=i))]
    assert 0 < len(kept) < 40
    assert store.counts.write_errors == 40 - len(kept)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        (small_disk / "more").write_bytes(bytes(65536))
    (small_disk / "more").unlink()
    for i in kept:
        found = store.get(key(str(i)), 5)
        assert found is not None
        assert bytes(found.state.data) == bytes(state(1000 * i + 5).data)
    store.delete(key(str(kept[0])))
    assert store.put(record("again"))
    store.close()


def test_synced_files_are_read_like_others(tmp_path: Path) -> None:
    store = FileStore(tmp_path, "node-1", ledger(), sync=True)
    store.put(record("a"))
    assert read_header(entry_path(store.folder, key("a"))).info == record("a").info
    assert store.read(key("a")) is not None
    assert store.read(key("b")) is None
    store.close()
