"""The coordinator's part of the approximate cache: which prompts are alike, and who has what."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from argus.cache.breaker import Breaker
from argus.cache.embedder import Embedder, MicroBatchingEmbedder
from argus.cache.embedders import ClipTextEmbedder, MeanPoolingEmbedder
from argus.cache.index import SERVER, EmbedderId, Index, Neighbour
from argus.cache.index_embedded import EmbeddedIndex
from argus.cache.index_postgres import PostgresIndex
from argus.cache.keys import EntryKey, Partition
from argus.clock import Clock
from argus.config import CacheConfig
from argus.control.levels import Ladder
from argus.control.offers import Offer, make_offers
from argus.control.predictor import LevelMeans
from argus.control.reuse import NearState, RetrievalTimes
from argus.coordinator.membership import Membership
from argus.errors import ArgusError, ModelError
from argus.models import bundled_variants
from argus.types import ImageRequest, VariantInfo
from argus.v1 import cluster_pb2

log = logging.getLogger(__name__)

T = TypeVar("T")
COMING_S = 60.0
"""A row whose states were not kept after so long has failed, or its node had no room for them."""
REMEMBERED = 100_000
"""Keys of entries that are known to be kept, and prompts that wait to be."""
FETCH_QUANTILE = 0.9
SAVE_EVERY = 500
"""Entries recorded between two saves of an index in this process."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """An entry that a row on its way will leave behind."""

    partition: Partition
    prompt: str
    owner: str
    since_s: float


class Reuse:
    """Finds cached prompts near a request's, and keeps account of what the nodes hold.

    Nothing here ever fails a request: what cannot be found, embedded or reached is not reused.
    Must be made inside the event loop that uses it.

    Args:
        config: the cache's settings; its mode is not "off".
        membership: the nodes.
        clock: of the index server's breaker, and of entries that are on their way.
    """

    def __init__(self, config: CacheConfig, membership: Membership, clock: Clock) -> None:
        self._config = config
        self._membership = membership
        self._clock = clock
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="argus-index")
        self._embedder: MicroBatchingEmbedder | None = None
        self._index: Index | None = None
        self._kept: OrderedDict[str, None] = OrderedDict()
        self._coming: OrderedDict[str, _Kept] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._unsaved = 0
        self.fetches = RetrievalTimes()
        self.lookups = 0
        self.near = 0

    # -- life ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Load the embedder and open the index in the background; until then nothing is reused."""
        self._spawn(self._open())

    async def stop(self) -> None:
        """Write the index down and end the threads."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._embedder is not None:
            await self._embedder.close()
        if self._index is not None:
            await self._run(self._index.close)
        self._worker.shutdown(wait=False)

    @property
    def always(self) -> bool:
        """Whether requests without a deadline are made from cached states, too."""
        return self._config.mode == "always"

    @property
    def embedder_name(self) -> str:
        """Name of what embeds prompts; empty while it is being loaded."""
        return self._embedder.name if self._embedder else ""

    async def entries(self) -> int:
        """Return how many entries the index has."""
        if self._index is None:
            return 0
        return sum((await self._run(self._index.partitions)).values())

    # -- requests ------------------------------------------------------------------------------

    async def look_up(
        self, request: ImageRequest, ladder: Ladder, variants: Mapping[str, VariantInfo]
    ) -> tuple[NearState, ...]:
        """Return the cached prompts that the request might start from."""
        if self._index is None or self._embedder is None:
            return ()
        if request.deadline_s is None and not self.always and not request.level:
            return ()
        partitions = self._partitions(request, ladder, variants)
        if not partitions:
            return ()
        self.lookups += 1
        try:
            vector = await self._embedder.embed(request.prompt)
            found = [
                _near(offer, neighbour, self._readers(neighbour), self._fetch_s(neighbour))
                for offer, partition in partitions
                if (neighbour := await self._nearest(partition, vector)) is not None
            ]
        except ArgusError as error:
            log.warning("no look-up in the cache: %s", error)
            return ()
        self.near += any(state.allows(k) for state in found for k in state.nodes)
        return tuple(found)

    def keep(
        self, request: ImageRequest, offer: Offer, variant: VariantInfo, ladder: Ladder
    ) -> tuple[str, tuple[int, ...]]:
        """Return the key and the steps of the states that a row leaves behind; none for most rows.

        Kept are those that some level could start from, of rows that run every step, of prompts
        that are not kept yet.

        Args:
            request: whose row it is.
            offer: what it is made at.
            variant: that makes it.
            ladder: the levels.
        """
        made_at = (offer.level.variant, offer.level.steps_fraction)
        alike = (x for x in ladder.all if (x.variant, x.steps_fraction) == made_at)
        steps = tuple(sorted({k for x in alike if (k := x.skip(offer.reference_steps))}))
        if self._index is None or not self._covers(variant) or offer.skip or not steps:
            return "", ()
        partition = self._partition(request, offer, variant)
        key = str(EntryKey.of(partition, request.prompt))
        coming = self._coming.get(key)
        now_s = self._clock.now()
        if key in self._kept or (coming is not None and now_s - coming.since_s < COMING_S):
            return "", ()
        _remember(self._coming, key, _Kept(partition, request.prompt, request.tenant, now_s))
        return key, steps

    def used(self, key: str, tier: str, seconds: float) -> None:
        """Note that a row started from an entry, and what fetching its state took."""
        if tier:
            self.fetches.add(tier, seconds)
        self._later(lambda index: index.count_use(EntryKey.parse(key)))

    # -- nodes ---------------------------------------------------------------------------------

    def take(self, node: str, report: cluster_pb2.CacheReport) -> None:
        """Apply what a node says of its cache.

        Raises:
            InvalidArgumentError: a key that is none.
        """
        held = {EntryKey.parse(e.key): tuple(e.steps) for e in report.held if not e.shared}
        shared = {EntryKey.parse(e.key): tuple(e.steps) for e in report.held if e.shared}
        gone = [(EntryKey.parse(key), node) for key in report.gone]
        gone += [(EntryKey.parse(key), SERVER) for key in report.gone_shared]
        for key, holder in gone:
            self._kept.pop(str(key), None)
            self._later(_forgetting(key, holder))
        if report.complete:
            self._later(lambda index: index.reconcile(node, held))
            for key in held:
                _remember(self._kept, str(key), None)
            return
        for entries, holder in ((held, node), (shared, SERVER)):
            for key, steps in entries.items():
                coming = self._coming.get(str(key))
                _remember(self._kept, str(key), None)
                if coming is not None:
                    self._spawn(self._record(coming, key, holder, steps))
        for key in (*held, *shared):
            self._coming.pop(str(key), None)

    # -- inside --------------------------------------------------------------------------------

    async def _open(self) -> None:
        try:
            embedder = await asyncio.to_thread(open_embedder, self._config)
            batching = MicroBatchingEmbedder(embedder)
            identity = EmbedderId(embedder.name, embedder.dimension)
            self._index = await self._run(lambda: self._open_index(identity))
            self._embedder = batching
        except (ArgusError, OSError) as error:
            log.error("nothing is reused: %s", error)
            return
        log.info("prompts are compared by %s", embedder.name)
        for member in self._membership.members:
            if member.cache_report is not None:
                self.take(member.name, member.cache_report)

    def _open_index(self, identity: EmbedderId) -> Index:
        if self._config.server:
            return PostgresIndex(self._config.server, identity, Breaker(self._clock))
        folder = Path(self._config.folder) / "index" if self._config.folder else None
        return EmbeddedIndex(identity, folder)

    def _covers(self, variant: VariantInfo) -> bool:
        """Whether the embedder understands the prompts that the variant is for."""
        return bool(variant.weights) and (
            bool(self._config.embedder) or variant.name in bundled_variants()
        )

    def _partitions(
        self, request: ImageRequest, ladder: Ladder, variants: Mapping[str, VariantInfo]
    ) -> list[tuple[Offer, Partition]]:
        """Return, for each variant that states of are of use, a whole run and its partition."""
        plain = replace(request, min_quality=None, deadline_s=1.0, level="")
        try:
            levels = ladder.visible(request.variant, request.level)
            whole = make_offers(plain, ladder, variants, LevelMeans())
        except ArgusError:
            # What is wrong with it is said where it is accepted.
            return []
        found = {}
        for offer in whole:
            level = offer.level
            wanted = any(
                x.skip_fraction
                and (x.variant, x.steps_fraction) == (level.variant, level.steps_fraction)
                for x in levels
            )
            if wanted and self._covers(variants[level.variant]):
                partition = self._partition(request, offer, variants[level.variant])
                found[partition.digest] = (offer, partition)
        return list(found.values())

    def _partition(self, request: ImageRequest, offer: Offer, variant: VariantInfo) -> Partition:
        special = (request.guidance_rescale, request.true_guidance)
        return Partition.of(
            variant=variant.name,
            weights=variant.weights,
            sampler=offer.sampler,
            steps=offer.steps,
            width=offer.row.width,
            height=offer.row.height,
            guidance=offer.guidance,
            negative_prompt=request.negative_prompt,
            eta=request.eta,
            adapters="" if special == (0.0, 1.0) else f"rescale {special[0]} true {special[1]}",
            tenant=request.tenant,
            shared=request.tenant in self._config.shared_tenants,
        )

    async def _nearest(self, partition: Partition, vector: NDArray[np.float32]) -> Neighbour | None:
        index = self._index
        if index is None:
            return None
        return await self._run(lambda: index.nearest(partition, vector))

    def _readers(self, neighbour: Neighbour) -> dict[int, frozenset[str]]:
        """Return, by K, the live nodes that can read the state."""
        members = self._membership.members
        readers: dict[int, set[str]] = {}
        for holder, ks in neighbour.holders.items():
            owner = self._membership.get(holder)
            group = owner.info.cache_group if owner is not None else ""
            able = {
                member.name
                for member in members
                if holder in (SERVER, member.name) or (group and member.info.cache_group == group)
            }
            for k in ks:
                readers.setdefault(k, set()).update(able)
        return {k: frozenset(able) for k, able in readers.items()}

    def _fetch_s(self, neighbour: Neighbour) -> float:
        """Return the seconds within which most fetches of such a state are done."""
        tiers = [t for t in self.fetches.tiers() if (t == "server") == _only_shared(neighbour)]
        seconds = [self.fetches.quantile(tier, FETCH_QUANTILE) or 0.0 for tier in tiers]
        return max(seconds, default=0.0)

    async def _record(
        self, coming: _Kept, key: EntryKey, holder: str, steps: Iterable[int]
    ) -> None:
        embedder, index = self._embedder, self._index
        if embedder is None or index is None:
            return
        try:
            vector = await embedder.embed(coming.prompt)
            await self._run(
                lambda: index.record(
                    coming.partition, key, vector, holder, steps, owner=coming.owner
                )
            )
        except ArgusError as error:
            log.warning("a cached entry is not in the index: %s", error)
            return
        self._unsaved += 1
        if self._unsaved >= SAVE_EVERY and isinstance(index, EmbeddedIndex):
            self._unsaved = 0
            await self._run(index.save)

    def _later(self, work: Callable[[Index], object]) -> None:
        """Do something with the index without waiting for it, in order."""
        index = self._index
        if index is not None:
            self._worker.submit(_logged, work, index)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def open_embedder(config: CacheConfig) -> Embedder:
    """Load the embedder that the settings name; takes seconds.

    Raises:
        ModelError: the folder is no text encoder, or there is none at all.
    """
    if config.embedder:
        folder = Path(config.embedder)
        try:
            return ClipTextEmbedder(folder)
        except ModelError:
            return MeanPoolingEmbedder(folder)
    bundled = list(bundled_variants().values())
    if not bundled:
        raise ModelError("cache.embedder is not set, and there is no bundled family")
    return ClipTextEmbedder(bundled[0] / "text_encoder")


def _near(
    offer: Offer, neighbour: Neighbour, readers: Mapping[int, frozenset[str]], fetch_s: float
) -> NearState:
    return NearState(
        variant=offer.row.variant,
        steps=offer.steps,
        key=str(neighbour.key),
        similarity=neighbour.similarity,
        nodes=readers,
        fetch_s=fetch_s,
    )


def _only_shared(neighbour: Neighbour) -> bool:
    return set(neighbour.holders) == {SERVER}


def _forgetting(key: EntryKey, holder: str) -> Callable[[Index], None]:
    return lambda index: index.forget(key, holder)


def _logged(work: Callable[[Index], object], index: Index) -> None:
    try:
        work(index)
    except ArgusError:
        log.exception("the index was not changed")


def _remember(table: OrderedDict[str, T], key: str, value: T) -> None:
    table[key] = value
    table.move_to_end(key)
    if len(table) > REMEMBERED:
        table.popitem(last=False)
