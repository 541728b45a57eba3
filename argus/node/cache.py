"""A node's part of the approximate cache: states fetched for rows, and kept for later ones."""

from __future__ import annotations

import logging
import platform
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from argus.cache.breaker import Breaker
from argus.cache.files import FileStore
from argus.cache.keys import EntryKey, digest
from argus.cache.ledger import Ledger, Policy
from argus.cache.memory import MemoryStore
from argus.cache.siblings import SiblingFiles
from argus.cache.state import EntryInfo, EntryRecord, State
from argus.cache.store import nobody
from argus.cache.tiers import Fetched, TieredStates
from argus.cache.writer import StateWriter
from argus.clock import Clock, MonotonicClock
from argus.config import CacheConfig
from argus.errors import ArgusError, ConfigError
from argus.v1 import cluster_pb2

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

FETCHERS = 4
SERVER_TIER = "server"
"""Name of the tier that all machines share, as `argus.cache.server` has it."""
EXPIRE_EVERY_S = 60.0
"""How often, while entries come in, those whose time is over are looked for."""
QUEUED_SHARE = 0.25
"""Of the memory budget: tensors that may wait to be written."""

REPORTED_AT_ONCE = 20_000
"""Entries in one report; each takes about 90 bytes of a message."""

Report = Callable[[cluster_pb2.CacheReport], None]


@dataclass(slots=True)
class Fetch:
    """A state on its way.

    Attributes:
        latents: resolved with the tensor, or None where no tier has it.
        found: where it came from and how long that took, once it is there.
    """

    latents: Future[torch.Tensor | None] = field(default_factory=Future)
    found: Fetched | None = None


class NodeCache:
    """The tiers of one node, what reads from them for rows, and what writes to them.

    Args:
        config: the cache's settings.
        node: this node's name.
        half: whether states are kept in float16; where models compute in float32 they are kept
            whole, so that a row continued from one is bit for bit what it would have been.
        clock: of times to live.

    Raises:
        ConfigError: the folder cannot be used.
    """

    def __init__(
        self, config: CacheConfig, node: str, *, half: bool, clock: Clock | None = None
    ) -> None:
        self._clock = clock or MonotonicClock()
        self._config = config
        self._half = half
        self._report: Report = lambda report: None
        self._lock = threading.Lock()
        self._expired_s = self._clock.now()
        root = Path(config.folder) if config.folder else None
        self.group = digest(f"{platform.node()}:{root.resolve()}") if root else ""
        try:
            self._local = self._files(root, node) if root else None
        except (ArgusError, OSError) as error:
            raise ConfigError(f"cache.folder: {error}") from error
        memory = MemoryStore(
            self._ledger(config.memory_bytes), on_gone=nobody if self._local else self._gone
        )
        self._listed = self._local or memory
        self._held_here = {s.tier: s for s in (memory, self._local) if s is not None}
        server = None
        if config.server:
            # Needs psycopg, which only those have who keep states on a server.
            from argus.cache.server import ServerStore

            server = ServerStore(
                config.server,
                budget_bytes=config.server_bytes,
                policy=Policy(config.policy),
                ttl_s=config.ttl_s or float("inf"),
                breaker=Breaker(self._clock),
                on_gone=self._gone_from_server,
            )
        siblings = SiblingFiles(root, node) if root else None
        self.states = TieredStates(memory, self._local, siblings, server)
        self._writer = StateWriter(
            self.states, int(QUEUED_SHARE * config.memory_bytes), self._stored
        )
        self._fetchers = ThreadPoolExecutor(FETCHERS, thread_name_prefix="cache-fetch")

    @property
    def state_wait_s(self) -> float:
        """How long a row waits for its state."""
        return self._config.state_wait_s

    def listen(self, report: Report) -> None:
        """Send what is gained and lost to `report` from now on, from any thread; first all there
        is."""
        held = [_entry(info, shared=False) for info in self._listed.entries()]
        with self._lock:
            self._report = report
        for start in range(0, max(1, len(held)), REPORTED_AT_ONCE):
            part = held[start : start + REPORTED_AT_ONCE]
            more = start + REPORTED_AT_ONCE < len(held)
            report(cluster_pb2.CacheReport(complete=True, held=part, more=more))

    def fetch(self, key: str, k: int) -> Fetch:
        """Start to fetch the state of an entry before step `k`; a broken key is a miss."""
        fetch = Fetch()
        self._fetchers.submit(self._fetch, fetch, key, k)
        return fetch

    def keep(self, key: str, tenant: str, steps: int, latents: Mapping[int, torch.Tensor]) -> None:
        """Queue the states of a row to be written; where there is no room they are dropped.

        Args:
            key: of the entry.
            tenant: who owns it.
            steps: of the row.
            latents: by step, float32 (channels, height, width) on the CPU; not changed any more.
        """
        dtype = np.float16 if self._half else np.float32
        arrays = {k: x.numpy().astype(dtype, copy=False) for k, x in latents.items()}
        states = {k: State.of_array(array) for k, array in arrays.items()}
        try:
            record = EntryRecord(EntryKey.parse(key), steps, tenant, time.time(), states)
            self._writer.offer(record)
        except ArgusError:
            log.exception("states that cannot be kept")

    def tiers(self) -> list[cluster_pb2.CacheTier]:
        """Return what each tier on this machine holds, and what it did.

        What the server holds is asked of the server by those who want to know: a heartbeat must not
        wait for it.
        """
        tiers = []
        for tier, counts in self.states.counts().items():
            said = cluster_pb2.CacheTier(
                tier=tier,
                hits=counts.hits,
                misses=counts.misses,
                corrupt=counts.corrupt,
                errors=counts.read_errors + counts.write_errors,
                writes=counts.writes,
                evicted=counts.evicted,
                expired=counts.expired,
            )
            store = self._held_here.get(tier)
            if store is not None:
                usage = store.usage()
                said.entries, said.bytes_used = usage.entries, usage.nbytes
                said.bytes_budget = usage.budget_bytes
            tiers.append(said)
        return tiers

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything queued is written; return whether it was in time."""
        return self._writer.flush(timeout_s)

    def close(self) -> None:
        """Write what is queued and let go of files and connections."""
        self._fetchers.shutdown(wait=True, cancel_futures=True)
        self._writer.close()
        self.states.close()

    def _files(self, root: Path, node: str) -> FileStore:
        return FileStore(root, node, self._ledger(self._config.disk_bytes), on_gone=self._gone)

    def _ledger(self, budget_bytes: int) -> Ledger:
        ttl_s = self._config.ttl_s or float("inf")
        return Ledger(budget_bytes, Policy(self._config.policy), ttl_s, self._clock)

    def _fetch(self, fetch: Fetch, key: str, k: int) -> None:
        if not fetch.latents.set_running_or_notify_cancel():
            return
        try:
            fetch.found = self.states.fetch(EntryKey.parse(key), k)
            fetch.latents.set_result(None if fetch.found is None else _tensor(fetch.found.state))
            if fetch.found is None:
                self._say(cluster_pb2.CacheReport(unreadable=[key]))
        except Exception as error:
            # Whatever went wrong, the row runs every step.
            fetch.latents.set_exception(error)

    def _stored(self, info: EntryInfo, tiers: tuple[str, ...]) -> None:
        held = []
        if self._listed.tier in tiers:
            held.append(_entry(info, shared=False))
        if SERVER_TIER in tiers:
            held.append(_entry(info, shared=True))
        if held:
            self._say(cluster_pb2.CacheReport(held=held))
        now_s = self._clock.now()
        if self._config.ttl_s and now_s - self._expired_s > EXPIRE_EVERY_S:
            self._expired_s = now_s
            self.states.expire()

    def _gone(self, key: EntryKey) -> None:
        self._say(cluster_pb2.CacheReport(gone=[str(key)]))

    def _gone_from_server(self, key: EntryKey) -> None:
        self._say(cluster_pb2.CacheReport(gone_shared=[str(key)]))

    def _say(self, report: cluster_pb2.CacheReport) -> None:
        with self._lock:
            tell = self._report
        tell(report)


def _entry(info: EntryInfo, *, shared: bool) -> cluster_pb2.CacheEntry:
    return cluster_pb2.CacheEntry(key=str(info.key), steps=info.ks, shared=shared)


def _tensor(state: State) -> torch.Tensor:
    """Return a state as a tensor of its own."""
    import torch

    found = torch.from_numpy(state.array().copy())
    return found.view(torch.bfloat16) if state.dtype == "bfloat16" else found
