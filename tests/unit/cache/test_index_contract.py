"""What every index keeps to: the embedded one, with and without its graph, a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from argus.cache.breaker import Breaker
from argus.cache.index import SERVER, EmbedderId, Index
from argus.cache.index_embedded import EmbeddedIndex
from argus.cache.index_postgres import PostgresIndex
from argus.cache.keys import EntryKey
from argus.cache.store import Selection
from argus.clock import MonotonicClock
from argus.errors import FailedPreconditionError, InvalidArgumentError
from tests.unit.cache.build import OTHER, PARTITION, key, unit

DIMENSION = 16
EMBEDDER = EmbedderId("test@1", DIMENSION)

Open = Callable[..., Index]


@pytest.fixture(params=["embedded", "embedded graph", "postgres"])
def open_index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Open the same index, again if it was closed."""
    opened: list[Index] = []

    def open_it(embedder: EmbedderId = EMBEDDER) -> Index:
        index: Index
        if request.param == "embedded":
            index = EmbeddedIndex(embedder, tmp_path / "index")
        elif request.param == "embedded graph":
            index = EmbeddedIndex(embedder, tmp_path / "index", exact_up_to=0)
        else:
            dsn = request.getfixturevalue("dsn")
            index = PostgresIndex(dsn, embedder, Breaker(MonotonicClock()))
        opened.append(index)
        return index

    yield open_it
    for index in opened:
        index.close()


def put(index: Index, prompt: str, seed: int, holder: str = "node-1", **more: object) -> EntryKey:
    name = key(prompt)
    vector = unit(seed, DIMENSION)
    assert index.record(PARTITION, name, vector, holder, (5, 10), **more)  # type: ignore[arg-type]
    return name


def test_nearest_agrees_with_brute_force(open_index: Open) -> None:
    index = open_index()
    vectors = np.stack([unit(seed, DIMENSION) for seed in range(200)])
    for seed in range(200):
        put(index, str(seed), seed)
    for seed in range(1000, 1030):
        query = unit(seed, DIMENSION)
        cosines = vectors @ query
        found = index.nearest(PARTITION, query * 3.0)
        assert found is not None
        assert found.key == key(str(int(np.argmax(cosines))))
        assert found.similarity == pytest.approx(float(cosines.max()), abs=2e-3)


def test_an_exact_repeat_has_similarity_one(open_index: Open) -> None:
    index = open_index()
    put(index, "a", 1)
    found = index.nearest(PARTITION, unit(1, DIMENSION))
    assert found is not None
    assert found.similarity == pytest.approx(1.0, abs=1e-3)
    assert found.similarity <= 1.0


def test_partitions_never_see_each_other(open_index: Open) -> None:
    index = open_index()
    tenants = [replace(PARTITION, tenant=name) for name in ("a", "b", None)]
    for i, partition in enumerate([*tenants, OTHER]):
        name = key("the same prompt", partition)
        index.record(partition, name, unit(5, DIMENSION), f"node-{i}", (5,))
    assert index.nearest(PARTITION, unit(5, DIMENSION)) is None
    for i, partition in enumerate([*tenants, OTHER]):
        found = index.nearest(partition, unit(5, DIMENSION))
        assert found is not None
        assert found.key.partition == partition.digest
        assert set(found.holders) == {f"node-{i}"}
    assert index.counts.empty == 1


def test_a_small_partition_is_found_among_many_rows_of_another(open_index: Open) -> None:
    index = open_index()
    for seed in range(300):
        put(index, str(seed), seed)
    lone = key("lone", OTHER)
    index.record(OTHER, lone, -unit(7, DIMENSION), "node-1", (5,))
    found = index.nearest(OTHER, unit(7, DIMENSION))
    assert found is not None
    assert found.key == lone
    assert found.similarity == pytest.approx(-1.0, abs=1e-3)


def test_a_neighbour_says_who_holds_which_k(open_index: Open) -> None:
    index = open_index()
    name = put(index, "a", 1, "node-1")
    index.record(PARTITION, name, unit(1, DIMENSION), "node-2", (25, 5))
    index.record(PARTITION, name, unit(1, DIMENSION), SERVER, (5,))
    found = index.nearest(PARTITION, unit(1, DIMENSION))
    assert found is not None
    assert dict(found.holders) == {"node-1": (5, 10), "node-2": (5, 25), SERVER: (5,)}
    assert found.ks == (5, 10, 25)
    assert set(found.holders_of(25)) == {"node-2"}
    assert set(found.holders_of(5)) == {"node-1", "node-2", SERVER}


def test_recording_again_replaces_what_the_holder_has(open_index: Open) -> None:
    index = open_index()
    name = put(index, "a", 1)
    index.record(PARTITION, name, unit(1, DIMENSION), "node-1", (15,))
    found = index.nearest(PARTITION, unit(1, DIMENSION))
    assert found is not None
    assert found.ks == (15,)
    assert index.partitions() == {PARTITION: 1}


def test_an_entry_lives_until_its_last_holder_forgets_it(open_index: Open) -> None:
    index = open_index()
    name = put(index, "a", 1, "node-1")
    put(index, "a", 1, "node-2")
    index.forget(name, "node-3")
    index.forget(name, "node-1")
    found = index.nearest(PARTITION, unit(1, DIMENSION))
    assert found is not None
    assert set(found.holders) == {"node-2"}
    index.forget(name, "node-2")
    index.forget(name, "node-2")
    assert index.nearest(PARTITION, unit(1, DIMENSION)) is None
    assert index.partitions() == {}


def test_a_forgotten_entry_gives_way_to_the_next_nearest(open_index: Open) -> None:
    index = open_index()
    for seed in range(50):
        put(index, str(seed), seed)
    for seed in range(0, 50, 2):
        index.forget(key(str(seed)), "node-1")
    put(index, "2", 2)
    left = [2, *range(1, 50, 2)]
    vectors = np.stack([unit(seed, DIMENSION) for seed in left])
    for seed in range(500, 520):
        query = unit(seed, DIMENSION)
        found = index.nearest(PARTITION, query)
        assert found is not None
        assert found.key == key(str(left[int(np.argmax(vectors @ query))]))


def test_uses_are_counted(open_index: Open) -> None:
    index = open_index()
    name = put(index, "a", 1)
    for _ in range(3):
        index.count_use(name)
    index.count_use(key("nobody"))
    found = index.nearest(PARTITION, unit(1, DIMENSION))
    assert found is not None
    assert found.uses == 3


def test_reconciling_makes_the_index_agree_with_a_holder(open_index: Open) -> None:
    index = open_index()
    kept, gone, shared = (put(index, name, seed) for seed, name in enumerate("abc"))
    put(index, "c", 2, "node-2")
    only_other = put(index, "d", 3, "node-2")
    unknown = key("never recorded")
    held = {kept: (15,), unknown: (5,), only_other: (20,)}
    assert index.reconcile("node-1", held) == [unknown]
    holders = {entry.key: dict(entry.holders) for entry in index.entries()}
    assert holders == {
        kept: {"node-1": (15,)},
        shared: {"node-2": (5, 10)},
        only_other: {"node-1": (20,), "node-2": (5, 10)},
    }
    assert gone not in holders


@pytest.mark.parametrize(
    ("selection", "left"),
    [
        (Selection(owner="t1"), {"b"}),
        (Selection(partition=PARTITION.digest), set()),
        (Selection(partition=OTHER.digest), {"a", "b"}),
        (Selection(created_before_unix_s=2.0), {"b"}),
        (Selection(owner="t2", created_before_unix_s=2.0), {"a", "b"}),
    ],
)
def test_purging_drops_exactly_what_is_selected(
    open_index: Open, selection: Selection, left: set[str]
) -> None:
    index = open_index()
    put(index, "a", 1, owner="t1", created_unix_s=1.0)
    put(index, "b", 2, owner="t2", created_unix_s=2.0)
    assert index.purge(selection) == 2 - len(left)
    assert {entry.key for entry in index.entries()} == {key(name) for name in left}


def test_everything_survives_closing_and_opening(open_index: Open) -> None:
    index = open_index()
    for seed in range(20):
        put(index, str(seed), seed, owner=f"t{seed}", created_unix_s=float(seed))
    index.record(OTHER, key("x", OTHER), unit(3, DIMENSION), "node-2", (25,))
    index.count_use(key("3"))
    index.forget(key("4"), "node-1")

    def everything(of: Index) -> dict[EntryKey, tuple[object, ...]]:
        return {
            e.key: (e.partition, e.owner, e.created_unix_s, e.uses, dict(e.holders), *e.vector)
            for e in of.entries()
        }

    before = everything(index)
    index.close()
    again = open_index()
    assert everything(again) == before
    assert len(before) == 20
    put(again, "later", 99)
    again.forget(key("5"), "node-1")
    found = again.nearest(PARTITION, unit(99, DIMENSION))
    assert found is not None
    assert found.key == key("later")
    assert len(list(again.entries())) == 20


@pytest.mark.parametrize("other", [EmbedderId("test@2", DIMENSION), EmbedderId("test@1", 32)])
def test_an_index_refuses_another_embedder(open_index: Open, other: EmbedderId) -> None:
    index = open_index()
    put(index, "a", 1)
    index.close()
    with pytest.raises(FailedPreconditionError, match=r"test@1 \(16 dimensions\)"):
        open_index(other)


@pytest.mark.parametrize(
    "vector",
    [np.ones(8, np.float32), np.zeros(DIMENSION, np.float32),
     np.full(DIMENSION, np.nan, np.float32), np.ones((1, DIMENSION), np.float32)],
    ids=["short", "zero", "nan", "two axes"],
)  # fmt: skip
def test_a_vector_that_is_none_is_refused(open_index: Open, vector: np.ndarray) -> None:
    index = open_index()
    with pytest.raises(InvalidArgumentError, match="vector"):
        index.nearest(PARTITION, vector)
    with pytest.raises(InvalidArgumentError, match="vector"):
        index.record(PARTITION, key("a"), vector, "node-1", (5,))


def test_an_entry_of_another_partition_or_without_states_is_refused(open_index: Open) -> None:
    index = open_index()
    with pytest.raises(InvalidArgumentError, match="key"):
        index.record(PARTITION, key("a", OTHER), unit(1, DIMENSION), "node-1", (5,))
    for ks in ((), (0,), (50,)):
        with pytest.raises(InvalidArgumentError, match="ks"):
            index.record(PARTITION, key("a"), unit(1, DIMENSION), "node-1", ks)
    assert index.partitions() == {}
