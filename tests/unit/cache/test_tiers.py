"""The tiers together and the thread that writes them."""

from __future__ import annotations

import math
import threading
from pathlib import Path

from argus.cache.breaker import Breaker
from argus.cache.entry_files import entry_path
from argus.cache.files import FileStore
from argus.cache.ledger import Ledger, Policy
from argus.cache.memory import MemoryStore
from argus.cache.server import ServerStore
from argus.cache.siblings import SiblingFiles
from argus.cache.state import EntryInfo, EntryRecord
from argus.cache.store import Selection
from argus.cache.tiers import TieredStates
from argus.cache.writer import StateWriter
from argus.clock import ManualClock, MonotonicClock
from tests.unit.cache.build import STATE_BYTES, key, record, state


def ledger(states: int = 1000, policy: Policy = Policy.BENEFIT, ttl_s: float = math.inf) -> Ledger:
    return Ledger(states * STATE_BYTES, policy, ttl_s, ManualClock())


def server_store(dsn: str) -> ServerStore:
    return ServerStore(
        dsn,
        budget_bytes=10**9,
        policy=Policy.BENEFIT,
        ttl_s=math.inf,
        breaker=Breaker(MonotonicClock()),
    )


def test_a_state_comes_from_the_nearest_tier_that_has_it(tmp_path: Path, dsn: str) -> None:
    root = tmp_path
    local, other = FileStore(root, "node-1", ledger()), FileStore(root, "node-2", ledger())
    states = TieredStates(
        MemoryStore(ledger()), local, SiblingFiles(root, "node-1"), server_store(dsn)
    )
    elsewhere = server_store(dsn)
    assert states.put(record("everywhere")) == ("memory", "local", "server")
    local.put(record("disk"))
    other.put(record("sibling"))
    elsewhere.put(record("server"))
    for name, tier in (
        ("everywhere", "memory"),
        ("disk", "local"),
        ("sibling", "sibling"),
        ("server", "server"),
    ):
        found = states.fetch(key(name), 10)
        assert found is not None
        assert found.tier == tier
        assert found.seconds > 0
        assert bytes(found.state.data) == bytes(state(10).data)
        again = states.fetch(key(name), 10)
        assert again is not None
        assert again.tier == "memory"
    assert states.fetch(key("nowhere"), 10) is None
    assert {tier: counts.misses for tier, counts in states.counts().items()} == {
        "memory": 4, "local": 3, "sibling": 2, "server": 1,
    }  # fmt: skip
    for part in (states, other, elsewhere):
        part.close()


def test_damage_in_one_tier_is_healed_by_the_next(tmp_path: Path, dsn: str) -> None:
    local = FileStore(tmp_path, "node-1", ledger())
    states = TieredStates(MemoryStore(ledger(0)), local, server=server_store(dsn))
    assert states.put(record("a")) == ("local", "server")
    path = entry_path(local.folder, key("a"))
    path.write_bytes(path.read_bytes()[:-1])
    found = states.fetch(key("a"), 5)
    assert found is not None
    assert found.tier == "server"
    assert bytes(found.state.data) == bytes(state(5).data)
    states.close()


def test_what_is_hot_in_memory_stays_on_disk(tmp_path: Path) -> None:
    local = FileStore(tmp_path, "node-1", ledger(4, Policy.LRU))
    states = TieredStates(MemoryStore(ledger()), local)
    states.put(record("a"))
    states.put(record("b"))
    assert states.fetch(key("a"), 5) is not None
    states.put(record("c"))
    assert {info.key for info in local.entries()} == {key("a"), key("c")}
    states.close()


def test_a_copy_in_memory_keeps_owner_and_age(tmp_path: Path) -> None:
    local = FileStore(tmp_path, "node-1", ledger())
    memory = MemoryStore(ledger())
    states = TieredStates(memory, local)
    local.put(record("a", (5, 10), owner="t1", created_unix_s=5.0))
    states.fetch(key("a"), 10)
    assert list(memory.entries()) == [EntryInfo(key("a"), 50, (10,), "t1", 5.0, STATE_BYTES)]
    states.fetch(key("a"), 5)
    assert [info.ks for info in memory.entries()] == [(5, 10)]
    assert states.purge(Selection(owner="t1")) == {"memory": 1, "local": 1}
    assert states.fetch(key("a"), 5) is None
    states.close()


def test_memory_can_be_given_by_the_node() -> None:
    given: list[memoryview] = []

    def allocate(nbytes: int) -> memoryview:
        given.append(memoryview(bytearray(nbytes)))
        return given[-1]

    memory = MemoryStore(ledger(), allocate)
    memory.put(record("a", (5,)))
    found = memory.get(key("a"), 5)
    assert found is not None
    given[0][0] ^= 0xFF
    assert found.state.data[0] == given[0][0]
    memory.delete(key("a"))
    assert bytes(found.state.data) == bytes(given[0])


class Gate(MemoryStore):
    """A store whose writes wait until they may go on."""

    def __init__(self) -> None:
        super().__init__(ledger())
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()

    def put(self, record: EntryRecord) -> bool:
        self.entered.release()
        self.open.wait()
        return super().put(record)


def test_a_full_queue_drops_and_never_waits() -> None:
    gate = Gate()
    stored: list[tuple[EntryInfo, tuple[str, ...]]] = []
    writer = StateWriter(
        TieredStates(gate), 3 * 2 * STATE_BYTES, lambda info, tiers: stored.append((info, tiers))
    )
    assert writer.offer(record("0"))
    gate.entered.acquire()
    taken = [writer.offer(record(str(i))) for i in range(1, 6)]
    assert taken == [True, True, False, False, False]
    gate.open.set()
    assert writer.flush()
    assert (writer.written, writer.dropped) == (3, 3)
    assert stored == [(record(str(i)).info, ("memory",)) for i in range(3)]
    assert writer.offer(record("later"))
    assert writer.close()
    assert gate.get(key("later"), 5) is not None
    assert not writer.offer(record("too late"))


def test_a_fault_in_one_write_does_not_end_the_thread() -> None:
    def refuse(nbytes: int) -> memoryview:
        raise RuntimeError("no pinned memory")

    memory = MemoryStore(ledger(), refuse)
    stored: list[EntryInfo] = []

    def listen(info: EntryInfo, tiers: tuple[str, ...]) -> None:
        if info.key == key("bad listener"):
            raise ValueError("the listener's fault")
        stored.append(info)

    writer = StateWriter(TieredStates(MemoryStore(ledger()), memory), 10**6, listen)
    writer.offer(record("bad listener"))
    writer.offer(record("next"))
    assert writer.flush()
    assert [info.key for info in stored] == [key("next")]
    assert (writer.written, writer.dropped) == (1, 1)
    assert memory.counts.write_errors == 2
    writer.close()


def test_an_entry_that_no_tier_keeps_is_counted_and_not_reported() -> None:
    stored: list[EntryInfo] = []
    writer = StateWriter(
        TieredStates(MemoryStore(ledger(1))), 10**6, lambda info, _: stored.append(info)
    )
    writer.offer(record("too large", (5, 10)))
    writer.offer(record("fits", (5,)))
    assert writer.flush()
    assert [info.key for info in stored] == [key("fits")]
    assert (writer.written, writer.dropped) == (1, 1)
    writer.close()
