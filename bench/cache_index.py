"""`make bench-cache-parts`, first half: look-ups among 100,000 prompts and fetches of states.

The embedded back ends and a real PostgreSQL on the same machine, in one run. Wall-clock times are
those a request would wait; the processor time beside them is free of other processes' turns.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import prompt_stream
import psycopg
import record
from local_postgres import LocalPostgres
from numpy.typing import NDArray

from argus.cache.breaker import Breaker
from argus.cache.entry_files import entry_path
from argus.cache.files import FileStore
from argus.cache.index import EmbedderId, Index
from argus.cache.index_embedded import EXACT_UP_TO, EmbeddedIndex
from argus.cache.index_postgres import PostgresIndex
from argus.cache.keys import EntryKey, Partition
from argus.cache.ledger import Ledger, Policy
from argus.cache.memory import MemoryStore
from argus.cache.server import ServerStore
from argus.cache.siblings import SiblingFiles
from argus.cache.state import EntryRecord, State
from argus.cache.store import StateSource, StateStore
from argus.clock import MonotonicClock
from argus.control.reuse import checkpoint_steps

DIMENSION = 384
QUERIES = 2000
RECALLS = 500
"""Queries whose answer is compared with brute force."""
STATES = 200
"""Entries of five states: 131 MB."""
SHAPE = (4, 128, 128)
PARTITION = Partition.of(
    variant="bench", weights="0" * 32, sampler="ddim", steps=50, width=1024, height=1024,
    guidance=7.5,
)  # fmt: skip
EMBEDDER = EmbedderId("synthetic", DIMENSION)


def key(number: int) -> EntryKey:
    return EntryKey.of(PARTITION, str(number))


def timed(work: Callable[[int], object], numbers: Sequence[int]) -> dict[str, float]:
    """Return milliseconds by quantile of `work`, called with each number."""
    wall, processor = [], []
    for number in numbers:
        start_s, start_cpu_s = time.perf_counter(), time.thread_time()
        work(number)
        wall.append(time.perf_counter() - start_s)
        processor.append(time.thread_time() - start_cpu_s)
    return {
        "p50 ms": 1e3 * float(np.quantile(wall, 0.5)),
        "p99 ms": 1e3 * float(np.quantile(wall, 0.99)),
        "processor p99 ms": 1e3 * float(np.quantile(processor, 0.99)),
    }


def lookups(
    name: str, index: Index, vectors: NDArray[np.float32], queries: NDArray[np.float32]
) -> dict[str, Any]:
    """Return times of look-ups, and the share that found the nearest of all, or as near a one."""
    numbers = {key(i).prompt: i for i in range(len(vectors))}
    right = 0
    for query in queries[:RECALLS]:
        cosines = vectors @ query
        found = index.nearest(PARTITION, query)
        right += found is not None and cosines[numbers[found.key.prompt]] >= cosines.max() - 1e-3
    times = timed(lambda i: index.nearest(PARTITION, queries[i]), range(len(queries)))
    return {"index": name} | times | {"recall": right / RECALLS}


def topics(count: int) -> NDArray[np.float32]:
    """Return unit vectors around 300 topics in 64 dimensions, seen in `DIMENSION` with noise.

    Text embeddings lie near a manifold of far fewer dimensions than they have numbers.
    """
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((300, 64))
    latent = centres[rng.integers(0, 300, count)] + 0.8 * rng.standard_normal((count, 64))
    vectors = latent @ rng.standard_normal((64, DIMENSION)) / 8.0
    vectors += 0.05 * rng.standard_normal((count, DIMENSION))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def fresh_directions(count: int) -> NDArray[np.float32]:
    """Return the stream of the replay: every prompt adds a direction of its own, the worst case."""
    stream = prompt_stream.draw(round(1.1 * count), 1)
    vectors = prompt_stream.embeddings(stream, DIMENSION, 1)
    return vectors[stream.same_as == np.arange(len(vectors))][-count:]


def fill(index: Index, vectors: NDArray[np.float32]) -> float:
    """Record all vectors; return the milliseconds that one took."""
    start_s = time.perf_counter()
    for i, vector in enumerate(vectors):
        index.record(PARTITION, key(i), vector, "node-1", (5, 10, 15, 20, 25))
    return 1e3 * (time.perf_counter() - start_s) / len(vectors)


def embedded_rows(
    vectors: NDArray[np.float32], queries: NDArray[np.float32], folder: Path
) -> Iterator[dict[str, Any]]:
    """Measure the embedded index: fresh, then mapped from its files."""
    index = EmbeddedIndex(EMBEDDER, folder)
    added_ms = fill(index, vectors)
    yield lookups("embedded float16", index, vectors, queries) | {
        "add ms": added_ms, "MiB": "-", "open s": "-"
    }  # fmt: skip
    index.close()
    nbytes = sum(path.stat().st_size for path in folder.iterdir())
    start_s = time.perf_counter()
    index = EmbeddedIndex(EMBEDDER, folder)
    opened_s = time.perf_counter() - start_s
    yield lookups("embedded float16, mapped", index, vectors, queries) | {
        "add ms": "-", "MiB": nbytes / 2**20, "open s": opened_s
    }  # fmt: skip
    index.close()


def worst_rows(vectors: NDArray[np.float32], queries: NDArray[np.float32]) -> list[dict[str, Any]]:
    """Measure a graph, and a partition small enough to do without, in the worst case."""
    rows = []
    for count in (EXACT_UP_TO, len(vectors)):
        index = EmbeddedIndex(EMBEDDER)
        added_ms = fill(index, vectors[-count:])
        name = f"embedded float16, {count} entries"
        rows.append(lookups(name, index, vectors[-count:], queries) | {"add ms": added_ms})
    return rows


def postgres_row(
    vectors: NDArray[np.float32], queries: NDArray[np.float32], server: LocalPostgres
) -> dict[str, Any]:
    """Measure the index in PostgreSQL; its rows are copied in and the graph is built at once."""
    index = PostgresIndex(server.dsn, EMBEDDER, Breaker(MonotonicClock()), timeout_s=30.0)
    digest = PARTITION.digest
    start_s = time.perf_counter()
    with psycopg.connect(server.dsn) as connection:
        connection.execute("DROP INDEX argus_index_entry_vector")
        connection.execute(
            "INSERT INTO argus_index_partition VALUES (%s, %s)", (digest, PARTITION.to_json())
        )
        with connection.cursor().copy("COPY argus_index_entry FROM STDIN") as copy:
            for i, vector in enumerate(vectors):
                literal = "[" + ",".join(f"{x:.6g}" for x in vector) + "]"
                copy.write_row((digest, key(i).prompt, "", 0.0, literal))
        with connection.cursor().copy("COPY argus_index_holder FROM STDIN") as copy:
            for i in range(len(vectors)):
                copy.write_row((digest, key(i).prompt, "node-1", [5, 10, 15, 20, 25]))
        connection.execute("SET maintenance_work_mem = '1GB'")
        connection.execute("SET max_parallel_maintenance_workers = 0")
        connection.execute(
            "CREATE INDEX argus_index_entry_vector ON argus_index_entry"
            " USING hnsw (vector halfvec_cosine_ops)"
        )
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute("ANALYZE")
        size = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    added_s = time.perf_counter() - start_s
    row = lookups("PostgreSQL, pgvector halfvec", index, vectors, queries)
    index.close()
    return row | {
        "add ms": 1e3 * added_s / len(vectors),
        "MiB": (size[0] if size else 0) / 2**20,
        "open s": "-",
    }


def forget_pages(path: Path) -> None:
    """Let the system forget what it holds of a file in memory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


@contextmanager
def stores(root: Path, server: LocalPostgres) -> Iterator[dict[str, StateStore]]:
    """Open one store of each kind, and local files that are synced."""

    def ledger() -> Ledger:
        return Ledger(2**40, Policy.BENEFIT, math.inf, MonotonicClock())

    opened: dict[str, StateStore] = {
        "memory": MemoryStore(ledger()),
        "local file": FileStore(root, "node-1", ledger()),
        "local file, synced": FileStore(root, "node-2", ledger(), sync=True),
        "PostgreSQL": ServerStore(
            server.dsn,
            budget_bytes=2**40,
            policy=Policy.BENEFIT,
            ttl_s=math.inf,
            breaker=Breaker(MonotonicClock()),
            timeout_s=30.0,
        ),
    }
    yield opened
    for store in opened.values():
        store.close()


def state_rows(root: Path, server: LocalPostgres) -> dict[str, list[dict[str, Any]]]:
    """Measure writing entries of five states and fetching single states, by tier."""
    rng = np.random.default_rng(0)
    records = []
    for i in range(STATES):
        states = {
            k: State.of_array(rng.standard_normal(SHAPE, dtype=np.float32).astype(np.float16))
            for k in checkpoint_steps(50)
        }
        records.append(EntryRecord(key(i), 50, "", time.time(), states))
    numbers = [int(n) for n in rng.integers(0, STATES, QUERIES)]
    with stores(root / "states", server) as opened:
        writes = [
            {"tier": name} | timed(lambda i, s=store: s.put(records[i]), range(STATES))
            for name, store in opened.items()
        ]
        local = root / "states" / "node-1"
        os.sync()

        def fetch(source: StateSource) -> Callable[[int], object]:
            return lambda i: source.get(key(i), 15)

        reads = [{"tier": n} | timed(fetch(opened[n]), numbers) for n in ("memory", "local file")]
        cold = []
        for number in numbers[:500]:
            forget_pages(entry_path(local, key(number)))
            cold.append(timed(fetch(opened["local file"]), [number]))
        reads.append({"tier": "local file, not in the page cache"} | _over(cold))
        sibling = SiblingFiles(root / "states", "node-9")
        reads.append({"tier": "sibling's file"} | timed(fetch(sibling), numbers))
        reads.append({"tier": "PostgreSQL"} | timed(fetch(opened["PostgreSQL"]), numbers))
    return {
        "Fetching one state of 131,072 B, checked": reads,
        "Writing an entry of five such states": writes,
    }


def _over(single: list[dict[str, float]]) -> dict[str, float]:
    wall = [times["p50 ms"] for times in single]
    processor = [times["processor p99 ms"] for times in single]
    return {
        "p50 ms": float(np.quantile(wall, 0.5)),
        "p99 ms": float(np.quantile(wall, 0.99)),
        "processor p99 ms": float(np.quantile(processor, 0.99)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--entries", type=int, default=100_000)
    options = parser.parse_args()
    count = options.entries
    vectors = topics(count + QUERIES)
    server = LocalPostgres(durable=True)
    try:
        with tempfile.TemporaryDirectory() as folder:
            tables = state_rows(Path(folder), server)
            rows = list(embedded_rows(vectors[:count], vectors[count:], Path(folder, "index")))
        rows.append(postgres_row(vectors[:count], vectors[count:], server))
    finally:
        server.close()
    tables[f"Nearest of {count} x {DIMENSION}, prompts of 300 topics in 64 dimensions"] = rows
    worst = fresh_directions(count + QUERIES)
    tables["The same, each prompt in a direction of its own"] = worst_rows(
        worst[:count], worst[count:]
    )
    print(record.write(options.out, "cache_index", tables))


if __name__ == "__main__":
    main()
