"""States in PostgreSQL: the tier that several machines share."""

from __future__ import annotations

import logging
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from argus.cache.breaker import Breaker
from argus.cache.keys import EntryKey
from argus.cache.ledger import Policy, first_benefit
from argus.cache.postgres import Connection, Database
from argus.cache.server_sql import EVICT, GET, ORDER, PUT, SCHEMA, SELECTED, USE
from argus.cache.state import EntryInfo, EntryRecord, State, StoredState
from argus.cache.store import EntryGone, Selection, StoreCounts, Usage, nobody
from argus.errors import ArgusError, InvalidArgumentError

log = logging.getLogger(__name__)

T = TypeVar("T")


class ServerStore:
    """States in two tables, evicted under one budget for all nodes.

    Times of creation and use are the wall clocks of the nodes that wrote and read.

    Args:
        dsn: of the server.
        budget_bytes: the most that may be held, as tensors.
        policy: what goes first.
        ttl_s: seconds after which an entry is gone; infinity for never.
        breaker: when to leave the server alone.
        sweep_every: puts of this process between two evictions; the budget is exceeded by at most
            so many entries of each node.
        timeout_s: for each wait on the server.
    """

    tier = "server"

    def __init__(
        self,
        dsn: str,
        *,
        budget_bytes: int,
        policy: Policy,
        ttl_s: float,
        breaker: Breaker,
        sweep_every: int = 32,
        timeout_s: float = 2.0,
        on_gone: EntryGone = nobody,
    ) -> None:
        self.counts = StoreCounts()
        self._database = Database(dsn, SCHEMA, breaker, timeout_s=timeout_s)
        self._budget_bytes = budget_bytes
        self._policy = policy
        self._ttl_s = ttl_s
        self._sweep_every = sweep_every
        self._on_gone = on_gone
        self._lock = threading.Lock()
        self._puts = 0

    def get(self, key: EntryKey, k: int) -> StoredState | None:
        """Return a verified state and count the use, or None."""
        values = self._values(key, k)

        def work(connection: Connection) -> tuple[Any, ...] | None:
            return connection.execute(GET, values, binary=True).fetchone()

        row = self._read(work, None)
        if row is None:
            self.counts.misses += 1
            return None
        shape, dtype, checksum, data, steps, ks, owner, created_unix_s, nbytes = row
        try:
            state = State.of(data, tuple(shape), dtype)
        except InvalidArgumentError:
            state = None
        if state is None or zlib.crc32(data) != checksum:
            self.counts.corrupt += 1
            self._drop([key])
            return None
        self.counts.hits += 1
        return StoredState(state, EntryInfo(key, steps, tuple(ks), owner, created_unix_s, nbytes))

    def put(self, record: EntryRecord) -> bool:
        """Write an entry in one transaction; return whether it is there."""
        info = record.info
        if info.nbytes > self._budget_bytes:
            self.counts.write_errors += 1
            return False
        values = {
            "partition": info.key.partition,
            "prompt": info.key.prompt,
            "steps": info.steps,
            "ks": list(info.ks),
            "owner": info.owner,
            "created": info.created_unix_s,
            "nbytes": info.nbytes,
            "now": time.time(),
            "benefit": first_benefit(info),
        }
        rows = [
            (info.key.partition, info.key.prompt, k, list(state.shape), state.dtype,
             zlib.crc32(state.data), state.data)
            for k, state in record.states.items()
        ]  # fmt: skip

        def work(connection: Connection) -> None:
            with connection.transaction():
                connection.execute(PUT, values)
                connection.execute(
                    "DELETE FROM argus_cache_state WHERE partition = %s AND prompt = %s",
                    (info.key.partition, info.key.prompt),
                )
                connection.cursor().executemany(
                    "INSERT INTO argus_cache_state VALUES (%s, %s, %s, %s, %s, %s, %b)", rows
                )

        if not self._write(work):
            return False
        self.counts.writes += 1
        with self._lock:
            self._puts += 1
            due = self._puts % self._sweep_every == 0
        if due:
            self.sweep(info.key)
        return True

    def sweep(self, newest: EntryKey | None = None) -> int:
        """Evict what is over the budget; return how many entries went.

        Args:
            newest: an entry to spare, which had no chance yet to prove its worth.
        """
        spared = ("", "") if newest is None else (newest.partition, newest.prompt)

        def work(connection: Connection) -> list[EntryKey]:
            query = EVICT.format(order=ORDER[self._policy]).encode()
            with connection.transaction():
                # Sweeps wait for each other here, so none counts what another is deleting.
                connection.execute("SELECT FROM argus_cache_floor FOR UPDATE")
                rows = connection.execute(query, (*spared, self._budget_bytes)).fetchall()
                if rows:
                    connection.execute(
                        "UPDATE argus_cache_floor SET priority = greatest(priority, %s)",
                        (max(row[2] for row in rows),),
                    )
            return [EntryKey(row[0], row[1]) for row in rows]

        gone: list[EntryKey] = self._read(work, [])
        self.counts.evicted += len(gone)
        self._tell(gone)
        return len(gone)

    def count_use(self, key: EntryKey, k: int) -> None:
        """Count a use that another tier served."""
        values = self._values(key, k)
        self._write(lambda connection: connection.execute(USE, values))

    def entries(self) -> Iterator[EntryInfo]:
        """Yield what is held."""

        def work(connection: Connection) -> list[EntryInfo]:
            rows = connection.execute(
                "SELECT partition, prompt, steps, ks, owner, created_unix_s, nbytes"
                " FROM argus_cache_entry"
            ).fetchall()
            return [EntryInfo(EntryKey(r[0], r[1]), r[2], tuple(r[3]), *r[4:]) for r in rows]

        nothing: list[EntryInfo] = []
        yield from self._read(work, nothing)

    def delete(self, key: EntryKey) -> bool:
        """Drop an entry; return whether it was held."""
        return bool(self._delete([key]))

    def purge(self, selection: Selection) -> int:
        """Drop the selected entries and return how many there were."""
        values = {
            "owner": selection.owner,
            "partition": selection.partition,
            "before": selection.created_before_unix_s,
        }

        def work(connection: Connection) -> list[EntryKey]:
            query = f"DELETE FROM argus_cache_entry WHERE {SELECTED} RETURNING partition, prompt"
            rows = connection.execute(query.encode(), values).fetchall()
            return [EntryKey(row[0], row[1]) for row in rows]

        gone: list[EntryKey] = self._read(work, [])
        self._tell(gone)
        return len(gone)

    def expire(self) -> int:
        """Drop the entries whose time is over and return how many there were."""
        dropped = self.purge(Selection(created_before_unix_s=time.time() - self._ttl_s))
        self.counts.expired += dropped
        return dropped

    def usage(self) -> Usage:
        """Return what is held; zeros while the server cannot be reached."""

        def work(connection: Connection) -> tuple[int, int]:
            row = connection.execute(
                "SELECT count(*), coalesce(sum(nbytes), 0)::bigint FROM argus_cache_entry"
            ).fetchone()
            return (0, 0) if row is None else (row[0], row[1])

        entries, nbytes = self._read(work, (0, 0))
        return Usage(entries, nbytes, self._budget_bytes)

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    def _values(self, key: EntryKey, k: int) -> dict[str, object]:
        now_unix_s = time.time()
        return {
            "partition": key.partition,
            "prompt": key.prompt,
            "k": k,
            "now": now_unix_s,
            "oldest": now_unix_s - self._ttl_s,
        }

    def _read(self, work: Callable[[Connection], T], otherwise: T) -> T:
        try:
            return self._database.call(work)
        except ArgusError as error:
            self.counts.read_errors += 1
            log.debug("the cache's server: %s", error)
            return otherwise

    def _write(self, work: Callable[[Connection], object]) -> bool:
        try:
            self._database.call(work)
        except ArgusError as error:
            self.counts.write_errors += 1
            log.debug("the cache's server: %s", error)
            return False
        return True

    def _delete(self, keys: list[EntryKey]) -> list[EntryKey]:
        def work(connection: Connection) -> list[EntryKey]:
            rows = connection.execute(
                "DELETE FROM argus_cache_entry e USING unnest(%s::text[], %s::text[]) AS k (p, q)"
                " WHERE partition = p AND prompt = q RETURNING partition, prompt",
                ([key.partition for key in keys], [key.prompt for key in keys]),
            ).fetchall()
            return [EntryKey(row[0], row[1]) for row in rows]

        nothing: list[EntryKey] = []
        return self._read(work, nothing)

    def _drop(self, keys: list[EntryKey]) -> None:
        self._tell(self._delete(keys))

    def _tell(self, keys: list[EntryKey]) -> None:
        for key in keys:
            self._on_gone(key)
