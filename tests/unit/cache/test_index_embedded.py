"""What only the embedded index promises: its files."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from argus.cache.index import EmbedderId
from argus.cache.index_embedded import EmbeddedIndex
from argus.errors import FailedPreconditionError, InvalidArgumentError
from tests.unit.cache.build import OTHER, PARTITION, key, unit

EMBEDDER = EmbedderId("test@1", 16)
REPOSITORY = Path(__file__).parents[3]


def filled(folder: Path, count: int = 10) -> EmbeddedIndex:
    index = EmbeddedIndex(EMBEDDER, folder)
    for seed in range(count):
        index.record(PARTITION, key(str(seed)), unit(seed), "node-1", (5,))
    return index


def nearest(index: EmbeddedIndex, seed: int) -> object:
    found = index.nearest(PARTITION, unit(seed))
    return None if found is None else found.key


def test_a_saved_partition_is_only_mapped_until_it_is_written_to(tmp_path: Path) -> None:
    filled(tmp_path).close()
    index = EmbeddedIndex(EMBEDDER, tmp_path)
    (graph,) = tmp_path.glob("*.usearch")
    maps = Path("/proc/self/maps")
    assert nearest(index, 3) == key("3")
    assert str(graph) in maps.read_text()
    index.record(PARTITION, key("new"), unit(77), "node-1", (5,))
    assert str(graph) not in maps.read_text()
    assert nearest(index, 77) == key("new")
    assert nearest(index, 3) == key("3")
    index.close()


@pytest.mark.parametrize("change", ["use", "reconcile", "second holder"])
def test_a_mapped_partition_can_be_written_to_after_a_save(tmp_path: Path, change: str) -> None:
    filled(tmp_path).close()
    index = EmbeddedIndex(EMBEDDER, tmp_path)
    (mapped,) = tmp_path.glob("*.usearch")
    if change == "use":
        index.count_use(key("3"))
    elif change == "reconcile":
        assert index.reconcile("node-2", {key("3"): (5,)}) == []
    else:
        index.record(PARTITION, key("3"), unit(3), "node-2", (5,))
    index.save()
    assert not mapped.exists()
    index.record(PARTITION, key("new"), unit(77), "node-1", (5,))
    index.forget(key("4"), "node-1")
    assert nearest(index, 77) == key("new")
    assert nearest(index, 3) == key("3")
    index.close()
    again = EmbeddedIndex(EMBEDDER, tmp_path)
    assert again.partitions() == {PARTITION: 10}
    again.close()


def test_a_save_waits_for_the_disk_only_for_what_it_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = filled(tmp_path)
    index.record(OTHER, key("x", OTHER), unit(1), "node-1", (5,))
    index.save()
    index.record(OTHER, key("y", OTHER), unit(2), "node-1", (5,))
    synced: list[Path] = []
    monkeypatch.setattr("argus.cache.index_files._sync", synced.append)
    index.save()
    names = [path.name for path in synced]
    assert sum(name.startswith(OTHER.digest) for name in names) == 2
    assert not [name for name in names if name.startswith(PARTITION.digest)]
    index.close()


def test_look_ups_do_not_wait_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = filled(tmp_path)
    reached, go_on = threading.Event(), threading.Event()

    def slow(path: Path) -> None:
        reached.set()
        assert go_on.wait(60)

    monkeypatch.setattr("argus.cache.index_files._sync", slow)
    saver = threading.Thread(target=index.save)
    saver.start()
    assert reached.wait(60)
    assert nearest(index, 3) == key("3")
    index.record(PARTITION, key("during"), unit(77), "node-1", (5,))
    go_on.set()
    saver.join()
    index.close()
    again = EmbeddedIndex(EMBEDDER, tmp_path)
    assert again.partitions() == {PARTITION: 11}
    again.close()


def test_a_save_writes_only_what_changed_and_leaves_no_old_files(tmp_path: Path) -> None:
    index = filled(tmp_path)
    index.record(OTHER, key("x", OTHER), unit(1), "node-1", (5,))
    index.save()
    before = {path.name for path in tmp_path.iterdir()}
    index.save()
    assert {path.name for path in tmp_path.iterdir()} == before
    index.record(OTHER, key("y", OTHER), unit(2), "node-1", (5,))
    index.save()
    after = {path.name for path in tmp_path.iterdir()}
    assert {n for n in before if PARTITION.digest in n} <= after
    assert {n for n in before if OTHER.digest in n}.isdisjoint(after)
    assert len(after) == len(before)
    index.close()


def test_a_crash_between_writing_and_committing_leaves_the_last_save(tmp_path: Path) -> None:
    filled(tmp_path).close()
    code = (
        "import os, sys; from pathlib import Path;"
        "from argus.cache.index_files import IndexFolder;"
        "from tests.unit.cache.test_index_embedded import *;"
        "IndexFolder.commit = lambda self, digests: os.kill(os.getpid(), 9);"
        "index = EmbeddedIndex(EMBEDDER, Path(sys.argv[1]));"
        "index.record(PARTITION, key('lost'), unit(99), 'node-1', (5,));"
        "index.save()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=REPOSITORY,
        env={"PYTHONPATH": ".:bench"},
        check=False,
    )
    assert done.returncode == -9
    index = EmbeddedIndex(EMBEDDER, tmp_path)
    assert index.partitions() == {PARTITION: 10}
    assert nearest(index, 99) != key("lost")
    index.record(PARTITION, key("again"), unit(98), "node-1", (5,))
    index.close()
    assert len(list(tmp_path.glob("*.usearch"))) == 1


@pytest.mark.parametrize("suffix", ["usearch", "json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "delete"])
def test_a_damaged_partition_is_lost_alone(tmp_path: Path, suffix: str, damage: str) -> None:
    index = filled(tmp_path)
    index.record(OTHER, key("x", OTHER), unit(1), "node-1", (5,))
    index.close()
    (path,) = tmp_path.glob(f"{PARTITION.digest}.*.{suffix}")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data if damage == "flip" else data[:-1])
    if damage == "delete":
        path.unlink()
    again = EmbeddedIndex(EMBEDDER, tmp_path)
    assert again.partitions() == {OTHER: 1}
    assert again.record(PARTITION, key("new"), unit(5), "node-1", (5,))
    again.close()
    assert EmbeddedIndex(EMBEDDER, tmp_path).partitions() == {OTHER: 1, PARTITION: 1}


def test_a_manifest_that_cannot_be_read_begins_anew(tmp_path: Path) -> None:
    filled(tmp_path).close()
    (tmp_path / "index.json").write_text("{")
    index = filled(tmp_path, 2)
    assert index.partitions() == {PARTITION: 2}
    index.close()
    assert len(list(tmp_path.glob("*.usearch"))) == 1


def test_another_storage_of_vectors_is_refused_and_the_folder_stays_free(tmp_path: Path) -> None:
    filled(tmp_path).close()
    with pytest.raises(FailedPreconditionError, match="float16, not int8"):
        EmbeddedIndex(EMBEDDER, tmp_path, "int8")
    with pytest.raises(InvalidArgumentError, match="dtype"):
        EmbeddedIndex(EMBEDDER, None, "float8")
    index = EmbeddedIndex(EMBEDDER, tmp_path)
    with pytest.raises(FailedPreconditionError, match="another process"):
        EmbeddedIndex(EMBEDDER, tmp_path)
    index.close()


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_every_storage_of_vectors_finds_the_nearest(dtype: str) -> None:
    index = EmbeddedIndex(EMBEDDER, None, dtype)
    for seed in range(50):
        index.record(PARTITION, key(str(seed)), unit(seed), "node-1", (5,))
    for seed in range(50):
        found = index.nearest(PARTITION, unit(seed))
        assert found is not None
        assert found.key == key(str(seed))
        assert found.similarity == pytest.approx(1.0, abs=0.02)


def test_a_full_disk_leaves_the_last_save_in_force(small_disk: Path) -> None:
    index = filled(small_disk, 5)
    index.save()
    for seed in range(1000):
        index.record(PARTITION, key(f"more {seed}"), unit(seed), "node-1", (5,))
    with pytest.raises(OSError, match="."):
        index.save()
    assert index.partitions() == {PARTITION: 1005}
    assert index.nearest(PARTITION, unit(3)) is not None
    index.close()
    again = EmbeddedIndex(EMBEDDER, small_disk)
    assert again.partitions() == {PARTITION: 5}
    again.close()
