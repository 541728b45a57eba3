"""The index in PostgreSQL with pgvector, for several coordinators or a restart on another machine.

One HNSW graph holds all partitions and pgvector filters behind it, so the scan goes on until a row
of the partition is found (`hnsw.iterative_scan`); for a small partition the planner takes the
primary key and compares all its rows instead. Vectors are halfvec, as in the embedded index.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

from argus.cache.breaker import Breaker
from argus.cache.index import (
    EmbedderId,
    IndexCounts,
    IndexedEntry,
    Neighbour,
    Vector,
    check_embedder,
    check_entry,
    check_vector,
)
from argus.cache.keys import EntryKey, Partition
from argus.cache.postgres import Connection, Database
from argus.cache.store import Selection
from argus.errors import ArgusError, FailedPreconditionError

log = logging.getLogger(__name__)

T = TypeVar("T")
U = TypeVar("U")

_SCHEMA = (
    "CREATE EXTENSION IF NOT EXISTS vector",
    """
    CREATE TABLE IF NOT EXISTS argus_index_embedder (
        one boolean PRIMARY KEY DEFAULT true CHECK (one),
        name text NOT NULL, dimension integer NOT NULL
    )
    """,
    "CREATE TABLE IF NOT EXISTS argus_index_partition (digest text PRIMARY KEY, fields text)",
    """
    CREATE TABLE IF NOT EXISTS argus_index_entry (
        partition text REFERENCES argus_index_partition, prompt text, owner text NOT NULL,
        created_unix_s double precision NOT NULL, vector halfvec({dimension}) NOT NULL,
        PRIMARY KEY (partition, prompt)
    )
    """,
    """
    CREATE INDEX IF NOT EXISTS argus_index_entry_vector ON argus_index_entry
        USING hnsw (vector halfvec_cosine_ops)
    """,
    # Apart from the vectors: counting a use must not write a new version of a vector, which
    # would be inserted into the graph again.
    """
    CREATE TABLE IF NOT EXISTS argus_index_uses (
        partition text, prompt text, uses bigint NOT NULL, PRIMARY KEY (partition, prompt),
        FOREIGN KEY (partition, prompt) REFERENCES argus_index_entry ON DELETE CASCADE
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS argus_index_holder (
        partition text, prompt text, holder text, ks integer[] NOT NULL,
        PRIMARY KEY (partition, prompt, holder),
        FOREIGN KEY (partition, prompt) REFERENCES argus_index_entry ON DELETE CASCADE
    )
    """,
    "CREATE INDEX IF NOT EXISTS argus_index_holder_holder ON argus_index_holder (holder)",
)

_FIND = """
    SELECT n.prompt, 1 - n.distance, coalesce(u.uses, 0), h.holder, h.ks FROM (
        SELECT partition, prompt, vector <=> %(vector)s::halfvec AS distance
        FROM argus_index_entry WHERE partition = %(partition)s
        ORDER BY vector <=> %(vector)s::halfvec LIMIT 1
    ) n
    LEFT JOIN argus_index_uses u USING (partition, prompt)
    JOIN argus_index_holder h USING (partition, prompt)
"""
_ALL = """
    SELECT p.fields, e.partition, e.prompt, e.owner, e.created_unix_s, coalesce(u.uses, 0),
        e.vector::text, array_agg(h.holder), json_agg(h.ks)
    FROM argus_index_entry e
    JOIN argus_index_partition p ON p.digest = e.partition
    LEFT JOIN argus_index_uses u USING (partition, prompt)
    JOIN argus_index_holder h USING (partition, prompt)
    GROUP BY p.fields, e.partition, e.prompt, u.uses
"""
_HOLD = """
    INSERT INTO argus_index_holder
    SELECT e.partition, e.prompt, %s, h.ks::integer[]
    FROM unnest(%s::text[], %s::text[], %s::text[]) AS h (partition, prompt, ks)
    JOIN argus_index_entry e USING (partition, prompt)
    RETURNING partition, prompt
"""
_WITHOUT_HOLDER = """
    DELETE FROM argus_index_entry e WHERE (partition, prompt) IN (
        SELECT * FROM unnest(%s::text[], %s::text[])
    ) AND NOT EXISTS (
        SELECT FROM argus_index_holder h WHERE h.partition = e.partition AND h.prompt = e.prompt
    )
"""


class PostgresIndex:
    """Entries in PostgreSQL. Safe for several threads; calls wait for the server.

    Args:
        dsn: of the server.
        embedder: what makes the vectors.
        breaker: when to leave the server alone.
        timeout_s: for each wait on the server.

    Raises:
        FailedPreconditionError: the server can be reached and its index was made by another
            embedder. If it cannot be reached now, the call that first reaches it raises this.
    """

    def __init__(
        self, dsn: str, embedder: EmbedderId, breaker: Breaker, *, timeout_s: float = 2.0
    ) -> None:
        self.embedder = embedder
        self.counts = IndexCounts()
        schema = tuple(text.format(dimension=embedder.dimension) for text in _SCHEMA)
        self._database = Database(dsn, schema, breaker, timeout_s=timeout_s)
        self._checked = False
        self._call(lambda connection: None, None)

    def nearest(self, partition: Partition, vector: Vector) -> Neighbour | None:
        """Return the entry of the partition with the highest cosine similarity, or None."""
        unit = check_vector(vector, self.embedder)
        digest = partition.digest
        values = {"partition": digest, "vector": _literal(unit)}

        def work(connection: Connection) -> list[tuple[Any, ...]] | None:
            with connection.transaction():
                connection.execute("SET LOCAL hnsw.iterative_scan = strict_order")
                return connection.execute(_FIND, values).fetchall()

        self.counts.lookups += 1
        rows = self._call(work, None)
        if not rows:
            self.counts.empty += rows is not None
            return None
        prompt, similarity, uses = rows[0][:3]
        holders = {row[3]: tuple(row[4]) for row in rows}
        return Neighbour(EntryKey(digest, prompt), min(1.0, max(-1.0, similarity)), uses, holders)

    def record(
        self,
        partition: Partition,
        key: EntryKey,
        vector: Vector,
        holder: str,
        ks: Iterable[int],
        *,
        owner: str = "",
        created_unix_s: float = 0.0,
    ) -> bool:
        """Note that a holder has states of an entry; False while the server is away."""
        ordered = check_entry(partition, key, ks)
        unit = check_vector(vector, self.embedder)

        def work(connection: Connection) -> bool:
            with connection.transaction():
                connection.execute(
                    "INSERT INTO argus_index_partition VALUES (%s, %s) ON CONFLICT DO NOTHING",
                    (key.partition, partition.to_json()),
                )
                connection.execute(
                    "INSERT INTO argus_index_entry VALUES (%s, %s, %s, %s, %s)"
                    " ON CONFLICT DO NOTHING",
                    (key.partition, key.prompt, owner, created_unix_s or time.time(),
                     _literal(unit)),
                )  # fmt: skip
                connection.execute(
                    "INSERT INTO argus_index_holder VALUES (%s, %s, %s, %s)"
                    " ON CONFLICT (partition, prompt, holder) DO UPDATE SET ks = excluded.ks",
                    (key.partition, key.prompt, holder, list(ordered)),
                )
            return True

        return self._call(work, False)

    def forget(self, key: EntryKey, holder: str) -> None:
        """Note that a holder has nothing of an entry any more."""

        def work(connection: Connection) -> None:
            with connection.transaction():
                connection.execute(
                    "DELETE FROM argus_index_holder"
                    " WHERE partition = %s AND prompt = %s AND holder = %s",
                    (key.partition, key.prompt, holder),
                )
                connection.execute(_WITHOUT_HOLDER, ([key.partition], [key.prompt]))

        self._call(work, None)

    def reconcile(
        self, holder: str, held: Mapping[EntryKey, tuple[int, ...]]
    ) -> list[EntryKey] | None:
        """Note all that a holder has, forget what it has not; return the entries not here.

        None while the server is away: nothing was noted, and nobody can say what is known there.
        """

        def work(connection: Connection) -> list[EntryKey]:
            with connection.transaction():
                gone = connection.execute(
                    "DELETE FROM argus_index_holder WHERE holder = %s RETURNING partition, prompt",
                    (holder,),
                ).fetchall()
                columns = [[key.partition for key in held], [key.prompt for key in held]]
                literals = ["{" + ",".join(map(str, ks)) + "}" for ks in held.values()]
                noted = connection.execute(_HOLD, (holder, *columns, literals)).fetchall()
                connection.execute(
                    _WITHOUT_HOLDER, ([row[0] for row in gone], [row[1] for row in gone])
                )
            known = {EntryKey(row[0], row[1]) for row in noted}
            return [key for key in held if key not in known]

        return self._call(work, None)

    def count_use(self, key: EntryKey) -> None:
        """Count a request that started from the entry."""

        def work(connection: Connection) -> None:
            connection.execute(
                "INSERT INTO argus_index_uses AS u SELECT partition, prompt, 1"
                " FROM argus_index_entry WHERE partition = %s AND prompt = %s"
                " ON CONFLICT (partition, prompt) DO UPDATE SET uses = u.uses + 1",
                (key.partition, key.prompt),
            )

        self._call(work, None)

    def purge(self, selection: Selection) -> int:
        """Drop the selected entries and return how many there were."""
        before = selection.created_before_unix_s

        def work(connection: Connection) -> int:
            return connection.execute(
                "DELETE FROM argus_index_entry WHERE (%(owner)s::text IS NULL OR owner = %(owner)s)"
                " AND (%(partition)s::text IS NULL OR partition = %(partition)s)"
                " AND (%(before)s::float8 IS NULL OR created_unix_s < %(before)s)",
                {"owner": selection.owner, "partition": selection.partition, "before": before},
            ).rowcount

        return self._call(work, 0)

    def partitions(self) -> dict[Partition, int]:
        """Return the number of entries by partition."""

        def work(connection: Connection) -> dict[Partition, int]:
            rows = connection.execute(
                "SELECT fields, count(*) FROM argus_index_entry"
                " JOIN argus_index_partition ON digest = partition GROUP BY fields"
            ).fetchall()
            return {Partition.from_json(row[0]): row[1] for row in rows}

        nothing: dict[Partition, int] = {}
        return self._call(work, nothing)

    def entries(self) -> Iterator[IndexedEntry]:
        """Yield everything, the vectors as they are stored."""

        def work(connection: Connection) -> list[tuple[Any, ...]]:
            return connection.execute(_ALL).fetchall()

        nothing: list[tuple[Any, ...]] = []
        for fields, digest, prompt, owner, created, uses, vector, names, ks in self._call(
            work, nothing
        ):
            yield IndexedEntry(
                Partition.from_json(fields),
                EntryKey(digest, prompt),
                owner,
                created,
                uses,
                {name: tuple(held) for name, held in zip(names, ks, strict=True)},
                np.fromstring(vector[1:-1], dtype=np.float32, sep=","),
            )

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    def _call(self, work: Callable[[Connection], T], otherwise: U) -> T | U:
        def checked(connection: Connection) -> T:
            if not self._checked:
                self._check_embedder(connection)
            return work(connection)

        try:
            return self._database.call(checked)
        except FailedPreconditionError:
            raise
        except ArgusError as error:
            self.counts.errors += 1
            log.debug("the index's server: %s", error)
            return otherwise

    def _check_embedder(self, connection: Connection) -> None:
        connection.execute(
            "INSERT INTO argus_index_embedder (name, dimension) VALUES (%s, %s)"
            " ON CONFLICT DO NOTHING",
            (self.embedder.name, self.embedder.dimension),
        )
        row = connection.execute("SELECT name, dimension FROM argus_index_embedder").fetchone()
        if row is not None:
            check_embedder(EmbedderId(row[0], row[1]), self.embedder, "PostgreSQL")
        self._checked = True


def _literal(vector: Vector) -> str:
    return "[" + ",".join(map(repr, vector.tolist())) + "]"
