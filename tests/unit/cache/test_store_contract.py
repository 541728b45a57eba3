"""What every store of states keeps to: memory, local files, and a real PostgreSQL."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from argus.cache.breaker import Breaker
from argus.cache.files import FileStore
from argus.cache.keys import EntryKey
from argus.cache.ledger import Ledger, Policy
from argus.cache.memory import MemoryStore
from argus.cache.server import ServerStore
from argus.cache.store import Selection, StateStore
from argus.clock import ManualClock, MonotonicClock
from argus.errors import InvalidArgumentError
from tests.unit.cache.build import OTHER, STATE_BYTES, key, record, state

Make = Callable[..., StateStore]


@pytest.fixture(params=["memory", "local", "server"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Make the store with a budget of so many states."""
    made: list[StateStore] = []
    gone: list[EntryKey] = []

    def make_store(
        states: int = 100, policy: Policy = Policy.BENEFIT, ttl_s: float = math.inf
    ) -> StateStore:
        budget = states * STATE_BYTES
        ledger = Ledger(budget, policy, ttl_s, ManualClock())
        store: StateStore
        if request.param == "memory":
            store = MemoryStore(ledger, on_gone=gone.append)
        elif request.param == "local":
            store = FileStore(tmp_path, "node-1", ledger, on_gone=gone.append)
        else:
            store = ServerStore(
                request.getfixturevalue("dsn"),
                budget_bytes=budget,
                policy=policy,
                ttl_s=ttl_s,
                breaker=Breaker(MonotonicClock()),
                sweep_every=1,
                on_gone=gone.append,
            )
        made.append(store)
        return store

    make_store.gone = gone  # type: ignore[attr-defined]
    yield make_store
    for store in made:
        store.close()


def gone(make: Make) -> list[EntryKey]:
    return make.gone  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16"])
def test_what_was_put_is_found_bit_for_bit_with_its_entry(make: Make, dtype: str) -> None:
    store = make()
    entry = record("a", (5, 10), owner="t", dtype=dtype)
    assert store.put(entry)
    for k in (5, 10):
        found = store.get(key("a"), k)
        assert found is not None
        assert bytes(found.state.data) == bytes(entry.states[k].data)
        assert (found.state.shape, found.state.dtype) == (entry.states[k].shape, dtype)
        assert found.info == entry.info
    assert list(store.entries()) == [entry.info]
    assert store.counts.hits == 2


def test_what_was_not_put_is_a_miss(make: Make) -> None:
    store = make()
    store.put(record("a", (5,)))
    assert store.get(key("b"), 5) is None
    assert store.get(key("a"), 10) is None
    assert store.get(key("a", OTHER), 5) is None
    assert (store.counts.misses, store.counts.hits, store.counts.corrupt) == (3, 0, 0)


def test_a_returned_state_cannot_be_written_to(make: Make) -> None:
    store = make()
    store.put(record("a", (5,)))
    found = store.get(key("a"), 5)
    assert found is not None
    with pytest.raises(TypeError, match="read-only"):
        found.state.data[0] = 0


def test_putting_again_replaces(make: Make) -> None:
    store = make()
    store.put(record("a", (5, 10), seed=1))
    store.put(record("a", (5, 10), seed=2))
    found = store.get(key("a"), 5)
    assert found is not None
    assert bytes(found.state.data) == bytes(state(2005).data)
    assert (store.usage().entries, store.usage().nbytes) == (1, 2 * STATE_BYTES)


@pytest.mark.parametrize(
    ("policy", "victim"), [(Policy.FIFO, "a"), (Policy.LRU, "b"), (Policy.BENEFIT, "c")]
)
def test_the_budget_holds_and_the_policy_says_who_goes(
    make: Make, policy: Policy, victim: str
) -> None:
    store = make(6, policy)
    for age, name in enumerate("abc"):
        store.put(record(name, (5, 25), created_unix_s=1e9 + age))
    for name, k, times in (("b", 25, 2), ("c", 5, 1), ("a", 25, 1)):
        for _ in range(times):
            assert store.get(key(name), k) is not None
    store.put(record("d", (5, 25), created_unix_s=1e9 + 9))
    assert gone(make) == [key(victim)]
    assert store.get(key(victim), 5) is None
    assert {info.key for info in store.entries()} == {key(n) for n in "abcd" if n != victim}
    assert store.usage().nbytes == 6 * STATE_BYTES
    assert store.counts.evicted == 1


def test_a_use_elsewhere_counts(make: Make) -> None:
    store = make(4, Policy.BENEFIT)
    store.put(record("a"))
    store.put(record("b"))
    for _ in range(3):
        store.count_use(key("a"), 10)
    store.count_use(key("nobody"), 10)
    store.put(record("c"))
    assert gone(make) == [key("b")]


def test_an_entry_larger_than_the_budget_is_not_kept_and_evicts_nothing(make: Make) -> None:
    store = make(3)
    store.put(record("a", (5,)))
    assert not store.put(record("b", (5, 10, 15, 20)))
    assert store.get(key("a"), 5) is not None
    assert store.counts.write_errors == 1
    assert gone(make) == []


def test_an_entry_goes_when_its_time_is_over(make: Make) -> None:
    store = make(ttl_s=3600.0)
    store.put(record("old", created_unix_s=time.time() - 3601))
    fresh = record("new", created_unix_s=time.time() - 3500)
    store.put(fresh)
    assert store.get(key("old"), 5) is None
    assert store.get(key("new"), 5) is not None
    store.put(record("older", created_unix_s=time.time() - 9999))
    store.expire()
    assert [info.key for info in store.entries()] == [key("new")]
    assert set(gone(make)) == {key("old"), key("older")}
    assert store.counts.expired == 2


@pytest.mark.parametrize(
    ("selection", "left"),
    [
        (Selection(owner="t1"), {"b", "c"}),
        (Selection(partition=key("x", OTHER).partition), {"a", "b"}),
        (Selection(created_before_unix_s=1e9 + 2), {"c"}),
        (Selection(owner="t2", created_before_unix_s=1e9 + 2), {"a", "c"}),
        (Selection(), set()),
    ],
)
def test_purging_drops_exactly_what_is_selected(
    make: Make, selection: Selection, left: set[str]
) -> None:
    store = make()
    store.put(record("a", owner="t1", created_unix_s=1e9))
    store.put(record("b", owner="t2", created_unix_s=1e9 + 1))
    store.put(record("c", owner="t2", created_unix_s=1e9 + 2, partition=OTHER))
    names = {key("a"): "a", key("b"): "b", key("c", OTHER): "c"}
    assert store.purge(selection) == 3 - len(left)
    assert {names[info.key] for info in store.entries()} == left
    assert {names[k] for k in gone(make)} == {"a", "b", "c"} - left


def test_deleting_says_whether_there_was_something(make: Make) -> None:
    store = make()
    store.put(record("a"))
    assert store.delete(key("a"))
    assert not store.delete(key("a"))
    assert store.get(key("a"), 5) is None
    assert store.usage().nbytes == 0


@pytest.mark.parametrize("ks", [(), (0,), (50,)])
def test_an_entry_that_cannot_be_is_refused(make: Make, ks: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArgumentError, match="states"):
        make().put(record("a", ks))


def test_threads_that_read_write_and_evict_never_see_a_wrong_byte(make: Make) -> None:
    store = make(8, Policy.LRU)
    wrong: list[str] = []

    def work(thread: int) -> None:
        for i in range(25):
            name = (thread + i) % 6
            store.put(record(str(name), (5, 10), seed=name))
            found = store.get(key(str((name + 1) % 6)), 10)
            expected = bytes(state(1000 * ((name + 1) % 6) + 10).data)
            if found is not None and bytes(found.state.data) != expected:
                wrong.append(str(name))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert store.counts.corrupt == 0
    assert store.counts.writes == 100
    assert store.usage().nbytes <= 8 * STATE_BYTES
