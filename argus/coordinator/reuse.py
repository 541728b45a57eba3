"""The coordinator's part of the approximate cache: which prompts are alike, and who has what."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Coroutine, Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from argus.cache.breaker import Breaker
from argus.cache.embedder import Embedder
from argus.cache.index import SERVER, EmbedderId, Index, Neighbour
from argus.cache.index_embedded import EmbeddedIndex
from argus.cache.keys import EntryKey, Partition
from argus.clock import Clock
from argus.config import CacheConfig
from argus.control.levels import Ladder
from argus.control.offers import Offer
from argus.control.reuse import NearState, RetrievalTimes
from argus.coordinator.embedder import open_embedder, understands
from argus.coordinator.embedding import Embedding
from argus.coordinator.entries import Coming, Entries
from argus.coordinator.index_thread import IndexThread
from argus.coordinator.membership import Membership
from argus.coordinator.partitions import kept_steps, partition_of, reusable_offers
from argus.errors import ArgusError
from argus.types import SHADOW_TENANT, ImageRequest, VariantInfo
from argus.v1 import cluster_pb2

log = logging.getLogger(__name__)

FETCH_QUANTILE = 0.9
COUNT_S = 0.5
"""A count that takes longer is left out of a status."""
INDEX_FOLDER = ".index"
"""Below the cache's folder; no node can have that name."""


class Reuse:
    """Finds cached prompts near a request's, and keeps account of what the nodes hold.

    Nothing here ever fails a request: what cannot be found, embedded or reached is not reused.
    Must be made inside the event loop that uses it.

    Args:
        config: the cache's settings; its mode is not "off".
        membership: the nodes.
        clock: of the index server's breaker, of look-ups, and of entries that are on their way.
        embedding: the embedder where others use it, too; None: its own, by the settings.
    """

    def __init__(
        self,
        config: CacheConfig,
        membership: Membership,
        clock: Clock,
        embedding: Embedding | None = None,
    ) -> None:
        self._config = config
        self._membership = membership
        self._clock = clock
        self._embedding = embedding or Embedding(lambda: open_embedder(config))
        self._embedder: Embedder | None = None
        self._index = IndexThread(clock)
        self._entries = Entries(clock)
        self._groups: dict[str, str] = {}
        self._started = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.fetches = RetrievalTimes()
        self.lookups = 0
        self.near = 0

    # -- life ----------------------------------------------------------------------------------

    def meet(self, variants: Iterable[VariantInfo]) -> None:
        """Load the embedder and open the index in the background once a variant can use them.

        Until that is done nothing is reused, and nothing kept.
        """
        if not self._started and any(understands(self._config, x) for x in variants):
            self._started = True
            self._spawn(self._open())

    async def stop(self) -> None:
        """Write the index down and end the threads."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._embedding.close()
        await self._index.close()

    @property
    def always(self) -> bool:
        """Whether requests without a deadline are made from cached states, too."""
        return self._config.mode == "always"

    @property
    def embedder_name(self) -> str:
        """Name of what embeds prompts; empty while it is being loaded."""
        return self._embedder.name if self._embedder else ""

    @property
    def busy(self) -> bool:
        """Whether something that nodes said is still being taken in."""
        return bool(self._tasks)

    async def entries(self) -> int:
        """Return how many entries the index has; 0 if it does not say so soon."""
        try:
            async with asyncio.timeout(COUNT_S):
                return await self._index.entries()
        except Exception as error:
            log.debug("the entries of the index were not counted: %r", error)
            return 0

    # -- requests ------------------------------------------------------------------------------

    def looks_up(self, request: ImageRequest) -> bool:
        """Whether a request is one of those that may start from a cached state."""
        if not self._index.is_open or self._embedder is None:
            return False
        return request.deadline_s is not None or self.always or bool(request.level)

    async def look_up(
        self,
        request: ImageRequest,
        ladder: Ladder,
        variants: Mapping[str, VariantInfo],
        vector: Awaitable[NDArray[np.float32]] | None = None,
    ) -> tuple[NearState, ...]:
        """Return the cached prompts that the request might start from.

        Args:
            request: that might.
            ladder: the levels.
            variants: by name.
            vector: of the prompt, which is on its way; None: it is embedded here.
        """
        if self._embedder is None or not self.looks_up(request):
            return ()
        offers = [
            offer
            for offer in reusable_offers(request, ladder, variants)
            if understands(self._config, variants[offer.row.variant])
        ]
        if not offers:
            return ()
        self.lookups += 1
        try:
            async with asyncio.timeout(self._config.look_up_s):
                embedded = await (vector or self._embedding.embed(request.prompt))
                found = [
                    near
                    for offer in offers
                    if (near := await self._near(request, offer, ladder, variants, embedded))
                ]
        except TimeoutError:
            log.warning("a look-up in the cache took longer than %g s", self._config.look_up_s)
            return ()
        except ArgusError as error:
            log.warning("no look-up in the cache: %s", error)
            return ()
        except Exception:
            log.exception("no look-up in the cache")
            return ()
        self.near += any(state.allows(k) for state in found for k in state.nodes)
        return tuple(found)

    def keep(
        self, request: ImageRequest, offer: Offer, variant: VariantInfo, ladder: Ladder
    ) -> tuple[str, tuple[int, ...]]:
        """Return the key and the steps of the states that a row leaves behind; none for most rows.

        Kept are those that some level could start from, of rows that run every step, of prompts
        that are not kept yet where a live node could read them.

        Args:
            request: whose row it is.
            offer: what it is made at.
            variant: that makes it.
            ladder: the levels.
        """
        steps = kept_steps(offer, ladder)
        if (
            not self._index.is_open
            or not understands(self._config, variant)
            or offer.skip
            or not steps
            or request.tenant == SHADOW_TENANT
        ):
            return "", ()
        partition = self._partition(request, offer, variant)
        key = EntryKey.of(partition, request.prompt)
        readable = any(self._readers_from(holder) for holder in self._entries.holders(key))
        if readable or self._entries.expects(key):
            return "", ()
        self._entries.expect(key, partition, request.prompt, request.tenant)
        return str(key), steps

    def call_off(self, key: str) -> None:
        """Note that the row that was to leave an entry behind ended without its picture."""
        self._entries.call_off(EntryKey.parse(key))

    def used(self, key: str, tier: str, seconds: float) -> None:
        """Note that a row started from an entry, and what fetching its state took."""
        if tier:
            self.fetches.add(tier, seconds)
        self._index.count_use(EntryKey.parse(key))

    # -- nodes ---------------------------------------------------------------------------------

    def take(self, node: str, report: cluster_pb2.CacheReport) -> None:
        """Apply what a node says of its cache.

        Raises:
            InvalidArgumentError: a key that is none.
        """
        member = self._membership.get(node)
        if member is not None:
            self._groups[node] = member.info.cache_group
        for text in report.unreadable:
            self._lost(node, EntryKey.parse(text))
        for holder, gone in ((node, report.gone), (SERVER, report.gone_shared)):
            for text in gone:
                self._forget(EntryKey.parse(text), holder)
        held = [(EntryKey.parse(e.key), tuple(e.steps), e.shared) for e in report.held]
        if report.complete:
            self._take_all(node, {key: steps for key, steps, shared in held if not shared})
            return
        coming = {key: self._entries.arrived(key) for key in {key for key, _, _ in held}}
        for key, steps, shared in held:
            # Without the prompt, as after a restart, an entry cannot be found by anyone.
            if (known := coming[key]) is not None:
                holder = SERVER if shared else node
                self._entries.hold(key, holder)
                self._spawn(self._record(known, key, holder, steps))

    # -- inside --------------------------------------------------------------------------------

    async def _open(self) -> None:
        try:
            embedder = await self._embedding.open()
            identity = EmbedderId(embedder.name, embedder.dimension)
            await self._index.open(lambda: self._open_index(identity))
        except (ArgusError, OSError) as error:
            log.error("nothing is reused: %s", error)
            return
        except Exception:
            log.exception("nothing is reused")
            return
        self._embedder = embedder
        for member in self._membership.members:
            if member.caches:
                self.take(member.name, member.cache_report)

    def _open_index(self, identity: EmbedderId) -> Index:
        if self._config.server:
            # Needs psycopg, which only those have who keep states on a server.
            from argus.cache.index_postgres import PostgresIndex

            return PostgresIndex(self._config.server, identity, Breaker(self._clock))
        folder = Path(self._config.folder) / INDEX_FOLDER if self._config.folder else None
        return EmbeddedIndex(identity, folder)

    def _partition(self, request: ImageRequest, offer: Offer, variant: VariantInfo) -> Partition:
        shared = request.tenant in self._config.shared_tenants
        return partition_of(request, offer, variant, shared=shared)

    async def _near(
        self,
        request: ImageRequest,
        offer: Offer,
        ladder: Ladder,
        variants: Mapping[str, VariantInfo],
        vector: NDArray[np.float32],
    ) -> NearState | None:
        name = offer.row.variant
        partition = self._partition(request, offer, variants[name])
        neighbour = await self._index.nearest(partition, vector)
        if neighbour is None:
            return None
        return NearState(
            variant=name,
            steps=offer.steps,
            key=str(neighbour.key),
            similarity=neighbour.similarity,
            nodes=self._readers(neighbour),
            fetch_s=self._fetch_s(neighbour),
            harmless=ladder.thresholds(name),
        )

    def _readers(self, neighbour: Neighbour) -> dict[int, frozenset[str]]:
        """Return, by K, the live nodes that can read the state."""
        readers: dict[int, frozenset[str]] = {}
        for holder, ks in neighbour.holders.items():
            able = self._readers_from(holder)
            readers |= {k: readers.get(k, frozenset()) | able for k in ks}
        return readers

    def _readers_from(self, holder: str) -> frozenset[str]:
        """Return the live nodes that can read what someone holds, who may be gone."""
        group = self._groups.get(holder, "")
        return frozenset(
            member.name
            for member in self._membership.members
            if member.caches
            and (holder in (SERVER, member.name) or (group and member.info.cache_group == group))
        )

    def _fetch_s(self, neighbour: Neighbour) -> float:
        """Return the seconds within which most fetches of such a state are done."""
        tiers = [t for t in self.fetches.tiers() if (t == "server") == _only_shared(neighbour)]
        seconds = [self.fetches.quantile(tier, FETCH_QUANTILE) or 0.0 for tier in tiers]
        return max(seconds, default=0.0)

    def _lost(self, node: str, key: EntryKey) -> None:
        """Forget an entry wherever a node looked for it in vain.

        The index may know of holders that the account does not, as after a restart.
        """
        for holder in {node, *self._groups, *self._entries.holders(key)} - {SERVER}:
            if holder == node or node in self._readers_from(holder):
                self._forget(key, holder)
        # The node asked the server, too. While others hold the entry, it may only have been away.
        if self._entries.holders(key) <= {SERVER}:
            self._forget(key, SERVER)

    def _forget(self, key: EntryKey, holder: str) -> None:
        self._entries.drop(key, holder)
        self._index.forget(key, holder)

    def _take_all(self, node: str, held: Mapping[EntryKey, tuple[int, ...]]) -> None:
        """Bring the account and the index in line with all that a node has."""
        if self._index.is_open:
            self._entries.holds_only(node, held)
            self._spawn(self._drop_unknown(node, held, self._index.reconcile(node, held)))

    async def _drop_unknown(
        self,
        node: str,
        held: Iterable[EntryKey],
        reconciled: asyncio.Future[list[EntryKey] | None],
    ) -> None:
        try:
            unknown = await reconciled
        except Exception:
            extra = {"node": node}
            log.exception("what node %s holds was not compared with the index", node, extra=extra)
            unknown = None
        # What the index could not be asked about might not be found there: it is kept anew.
        for key in held if unknown is None else unknown:
            self._entries.drop(key, node)

    async def _record(
        self, coming: Coming, key: EntryKey, holder: str, steps: Iterable[int]
    ) -> None:
        if self._embedder is None:
            return
        try:
            vector = await self._embedding.embed(coming.prompt)
            # It may be gone again by now.
            if holder not in self._entries.holders(key):
                return
            if await self._index.record(coming, key, vector, holder, steps):
                return
            log.warning("a cached entry is not in the index, which cannot be reached")
        except ArgusError as error:
            log.warning("a cached entry is not in the index: %s", error)
        except Exception:
            log.exception("a cached entry is not in the index")
        # Nobody would find it; the prompt is kept anew.
        self._entries.drop(key, holder)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _only_shared(neighbour: Neighbour) -> bool:
    return set(neighbour.holders) == {SERVER}
