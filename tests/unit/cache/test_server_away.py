"""A PostgreSQL that is not there, stops, and comes back; with calls counted, and nothing raised."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
from collections.abc import Iterator

import psycopg
import pytest
from local_postgres import LocalPostgres

from argus.cache.breaker import Breaker
from argus.cache.index import EmbedderId
from argus.cache.index_postgres import PostgresIndex
from argus.cache.ledger import Policy
from argus.cache.postgres import Connection, Database
from argus.cache.server import ServerStore
from argus.clock import ManualClock
from argus.errors import FailedPreconditionError, InternalError, UnavailableError
from tests.unit.cache.build import PARTITION, key, record, state, unit

EMBEDDER = EmbedderId("test@1", 16)


@pytest.fixture
def own_postgres() -> Iterator[LocalPostgres]:
    """A server that nobody minds being stopped."""
    server = LocalPostgres()
    yield server
    server.close()


def open_store(dsn: str, clock: ManualClock) -> ServerStore:
    return ServerStore(
        dsn,
        budget_bytes=10**9,
        policy=Policy.BENEFIT,
        ttl_s=math.inf,
        breaker=Breaker(clock, first_s=1.0, most_s=8.0, seed=1),
    )


def test_store_and_index_outlive_their_server(own_postgres: LocalPostgres) -> None:
    clock = ManualClock()
    store = open_store(own_postgres.dsn, clock)
    index = PostgresIndex(own_postgres.dsn, EMBEDDER, Breaker(clock, first_s=1.0, seed=2))
    assert store.put(record("a"))
    assert index.record(PARTITION, key("a"), unit(1), "node-1", (5,))

    own_postgres.stop()
    for _ in range(5):
        assert store.get(key("a"), 5) is None
        assert not store.put(record("b"))
        assert index.nearest(PARTITION, unit(1)) is None
        assert not index.record(PARTITION, key("b"), unit(2), "node-1", (5,))
    assert (store.counts.read_errors, store.counts.write_errors) == (5, 5)
    assert index.counts.errors == 10
    assert store.usage().entries == 0
    assert list(index.entries()) == []
    assert index.reconcile("node-1", {key("a"): (5,)}) is None, "nobody knows what is not there"

    own_postgres.start()
    assert store.get(key("a"), 5) is None, "the server is left alone for a while"
    clock.advance(60.0)
    found = store.get(key("a"), 5)
    assert found is not None
    assert bytes(found.state.data) == bytes(state(5).data)
    neighbour = index.nearest(PARTITION, unit(1))
    assert neighbour is not None
    assert neighbour.key == key("a")
    assert store.put(record("b"))
    store.close()
    index.close()


def test_a_server_that_comes_later_is_taken_up(own_postgres: LocalPostgres) -> None:
    clock = ManualClock()
    own_postgres.stop()
    store = open_store(own_postgres.dsn, clock)
    index = PostgresIndex(own_postgres.dsn, EMBEDDER, Breaker(clock))
    assert not store.put(record("a"))
    own_postgres.start()
    other = PostgresIndex(own_postgres.dsn, EmbedderId("test@2", 16), Breaker(clock))
    clock.advance(60.0)
    assert store.put(record("a"))
    with pytest.raises(FailedPreconditionError, match="test@2"):
        index.nearest(PARTITION, unit(1))
    for part in (store, index, other):
        part.close()


def test_an_absent_server_is_tried_ever_more_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    tried: list[float] = []

    def connect(*args: object, **options: object) -> None:
        tried.append(clock.now())
        raise psycopg.OperationalError("nobody is there")

    monkeypatch.setattr(psycopg, "connect", connect)
    store = open_store("host=/nowhere", clock)
    for _ in range(2000):
        store.get(key("a"), 5)
        clock.advance(0.05)
    pauses = [b - a for a, b in zip(tried, tried[1:], strict=False)]
    assert store.counts.read_errors == 2000
    assert all(0.5 <= pause <= 8.1 for pause in pauses)
    assert pauses[0] <= 1.05
    assert min(pauses[4:]) >= 4.0
    assert len(tried) < 25


def test_a_damaged_row_is_a_miss_and_goes(dsn: str) -> None:
    store = open_store(dsn, ManualClock())
    store.put(record("a"))
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "UPDATE argus_cache_state SET data = set_byte(data, 9, 255 - get_byte(data, 9))"
        )
    assert store.get(key("a"), 5) is None
    assert store.counts.corrupt == 1
    assert store.usage().entries == 0
    store.close()


def test_a_broken_connection_is_replaced(dsn: str) -> None:
    clock = ManualClock()
    store = open_store(dsn, clock)
    store.put(record("a"))
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert store.get(key("a"), 5) is None
    clock.advance(2.0)
    assert store.get(key("a"), 5) is not None
    store.close()


def test_a_statement_that_takes_too_long_is_given_up(dsn: str) -> None:
    database = Database(dsn, (), Breaker(ManualClock()), timeout_s=0.05)
    with pytest.raises(UnavailableError, match="timeout"):
        database.call(lambda connection: connection.execute("SELECT pg_sleep(30)"))
    database.close()


def test_a_machine_that_vanished_is_noticed_within_seconds(dsn: str) -> None:
    database = Database(dsn, (), Breaker(ManualClock()), timeout_s=2.0)
    used = database.call(lambda connection: connection.info.get_parameters())
    assert int(used["tcp_user_timeout"]) == 4000
    assert used.get("keepalives", "1") == "1"
    idle, interval, count = (int(used[f"keepalives_{x}"]) for x in ("idle", "interval", "count"))
    assert idle + interval * count <= 5
    database.close()


def test_a_wrong_statement_is_a_fault_of_ours_and_no_absence(dsn: str) -> None:
    database = Database(dsn, (), Breaker(ManualClock()))
    with pytest.raises(InternalError):
        database.call(lambda connection: connection.execute("SELECT nonsense"))
    assert database.call(lambda connection: connection.execute("SELECT 1").fetchone()) == (1,)
    database.close()
    with pytest.raises(UnavailableError, match="closed"):
        database.call(lambda connection: None)


def test_without_the_extra_the_message_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from argus.errors import ConfigError\n"
        "try:\n    import argus.cache.server\n"
        "except ConfigError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "argus-serve[postgres]" in done.stdout


def test_a_deadlock_is_no_absence_of_the_server(dsn: str) -> None:
    database = Database(dsn, (), Breaker(ManualClock()), timeout_s=20.0)
    database.call(lambda connection: connection.execute("CREATE TABLE t (n int PRIMARY KEY)"))
    database.call(lambda connection: connection.execute("INSERT INTO t VALUES (1), (2)"))
    both = threading.Barrier(2)
    failed: list[Exception] = []

    def lock(first: int, second: int) -> None:
        def work(connection: Connection) -> None:
            connection.execute("SET deadlock_timeout = '50ms'")
            with connection.transaction():
                connection.execute("SELECT FROM t WHERE n = %s FOR UPDATE", (first,))
                both.wait()
                connection.execute("SELECT FROM t WHERE n = %s FOR UPDATE", (second,))

        try:
            database.call(work)
        except UnavailableError as error:
            failed.append(error)

    threads = [threading.Thread(target=lock, args=order) for order in ((1, 2), (2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(failed) == 1
    assert "deadlock" in str(failed[0])
    assert database.call(lambda connection: connection.execute("SELECT 1").fetchone()) == (1,)
    database.close()
