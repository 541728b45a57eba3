"""The coordinator's parts with a cache, on prompts whose similarity a test chooses."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import argus.coordinator.reuse
from argus.config import CacheConfig
from argus.control.levels import LevelProfile
from argus.coordinator.membership import Member
from argus.coordinator.reuse import Reuse
from argus.coordinator.subscription import Subscription
from argus.errors import InternalError
from argus.types import ImageRequest, Level
from argus.v1 import cluster_pb2
from tests.unit.coordinator.bench import BASE, COSTS, Bench, info, works
from tests.unit.coordinator.polling import eventually

WEIGHED = replace(BASE, weights="f" * 32)
PROFILE = LevelProfile(
    "base", (Level("base-10", "base", 1.0, 1.0), Level("base-skip", "base", 1.0, 0.9, 0.5))
)
"""At ten steps the second level starts before step 5; alone it takes 0.6 s, the whole run 1.1."""
TIGHT_S = 0.8
"""A deadline that only the level that skips can meet."""


class Angles:
    """Embeds "… @30" as the direction of 30 degrees: prompts are as alike as the cosine between."""

    name = "angles"
    dimension = 2
    broken = False

    def embed(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        if self.broken:
            raise InternalError("the encoder is broken")
        angles = np.radians([float(prompt.rpartition("@")[2]) for prompt in prompts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


class CachedBench(Bench):
    """A bench whose prompts are looked up, with nodes that say what they hold."""

    def __init__(self, embedder: Angles, **cache: Any) -> None:
        super().__init__(PROFILE, CacheConfig(embedder="angles", **cache))
        self.embedder = embedder

    @property
    def cached(self) -> Reuse:
        assert self.reuse is not None
        return self.reuse

    def join_with(
        self,
        name: str = "n1",
        group: str = "",
        held: Sequence[cluster_pb2.CacheEntry] = (),
        more: bool = False,
    ) -> Member:
        """Let a node join that has a cache, and say what is in it, or a first part of that."""
        node = replace(info(name, variant=WEIGHED, costs=COSTS), cache_group=group)
        self.catalog.learn(node, self.membership.holds)
        member = self.membership.join(node, cluster_pb2.NodeHello(node=name))
        self.say(member, complete=True, held=held, more=more)
        self.dispatcher.giving.pump()
        return member

    def say(self, member: Member, **report: Any) -> None:
        whole = member.take_cache(cluster_pb2.CacheReport(**report))
        if whole is not None:
            self.cached.take(member.name, whole)

    def holds(self, member: Member, work: cluster_pb2.Work, shared: bool = False) -> None:
        entry = cluster_pb2.CacheEntry(key=work.keep_key, steps=work.checkpoints, shared=shared)
        self.say(member, held=[entry])

    async def ask(self, prompt: str, request_id: str = "r", **fields: Any) -> Subscription:
        """Look a prompt up and submit it, as the service does."""
        request = ImageRequest(request_id=request_id, prompt=prompt, **fields)
        near = await self.cached.look_up(request, self.catalog.ladder, self.catalog.variants)
        return self.dispatcher.submit(request, near)

    async def work_of(self, member: Member, prompt: str, **fields: Any) -> cluster_pb2.Work:
        await self.ask(prompt, **fields)
        (work,) = await works(member)
        return work

    async def cache(self, member: Member, prompt: str, **fields: Any) -> cluster_pb2.Work:
        """Run a prompt whole and let the node keep its states."""
        work = await self.work_of(member, prompt, request_id=f"cached {prompt}", **fields)
        self.start(member, work)
        self.holds(member, work)
        self.done(member, work)
        await self.settled()
        return work

    async def settled(self) -> None:
        """Wait until what nodes said is in the index."""
        await eventually(lambda: not self.cached.busy)
        await self.cached.entries()


@contextlib.asynccontextmanager
async def cached_bench(monkeypatch: pytest.MonkeyPatch, **cache: Any) -> AsyncIterator[CachedBench]:
    embedder = Angles()
    monkeypatch.setattr(argus.coordinator.reuse, "open_embedder", lambda config: embedder)
    bench = CachedBench(embedder, **cache)
    bench.cached.meet([WEIGHED])
    await eventually(lambda: bench.cached.embedder_name == "angles" and not bench.cached.busy)
    try:
        yield bench
    finally:
        await bench.cached.stop()
