"""The coordinator as a whole: its parts wired, started, drained."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from argus.clock import Clock
from argus.config import CacheConfig, CoordinatorConfig, QualityConfig
from argus.control.fairness import Share
from argus.coordinator.admin_service import AdminService
from argus.coordinator.adoption import Adoption
from argus.coordinator.catalog import Catalog
from argus.coordinator.cluster_service import ClusterService
from argus.coordinator.dispatch import Dispatcher
from argus.coordinator.door import Door
from argus.coordinator.embedder import open_embedder
from argus.coordinator.embedding import Embedding
from argus.coordinator.image_service import ImageService
from argus.coordinator.judge import Judge
from argus.coordinator.keeping import Keeping, Save, StateFile
from argus.coordinator.leadership import Leadership
from argus.coordinator.leadership_metrics import leadership_families
from argus.coordinator.live import open_watch, watched
from argus.coordinator.membership import Membership
from argus.coordinator.metrics import Metrics
from argus.coordinator.named import load_profile, make_policy
from argus.coordinator.parts import Parts
from argus.coordinator.policy_metrics import (
    policy_families,
    prompt_families,
    residency_families,
)
from argus.coordinator.predictors import load_predictor
from argus.coordinator.prompts import PromptReader
from argus.coordinator.residence import Residence
from argus.coordinator.reuse import Reuse
from argus.coordinator.security import Security
from argus.coordinator.settling import Settling
from argus.coordinator.shadow import Shadow
from argus.coordinator.shadow_metrics import shadow_families
from argus.coordinator.turns import first_of
from argus.coordinator.watchdog import Watchdog
from argus.errors import UnavailableError
from argus.metrics.exposition import shown_metrics
from argus.rpc.gate import Gate
from argus.rpc.guard import Guard
from argus.rpc.server import WHOLE_SERVER, RpcServer
from argus.tracing.spans import OFF, Tracer
from argus.v1 import admin_pb2_grpc, cluster_pb2_grpc, image_pb2_grpc

IMAGE_SERVICE = "argus.v1.ImageService"
CLUSTER_SERVICE = "argus.v1.ClusterService"
ADMIN_SERVICE = "argus.v1.AdminService"
ARGUS = "argus"
"""The policy whose nodes' residency is planned; the others are as they are published."""
METRICS = "coordinator.metrics"
WATCH_INTERVAL_S = 0.05
STOP_GRACE_S = 1.0


class Coordinator:
    """The parts, wired. Must be made inside the event loop that runs it.

    Args:
        config: settings.
        clock: where the time comes from.
        cache: settings of the cache; None: it is off.
        quality: settings of the watch of live pictures; None: it is off.
        security: keeps others out; None: everyone who reaches the port may do everything.
        tracer: traces requests.
        leadership: says whether this coordinator leads; None: no other one stands by.

    Attributes:
        metrics: what there is to be shown to Prometheus.

    Raises:
        ConfigError: the level file or the predictor cannot be used, or there is no such policy.
    """

    def __init__(
        self,
        config: CoordinatorConfig,
        clock: Clock,
        cache: CacheConfig | None = None,
        quality: QualityConfig | None = None,
        security: Security | None = None,
        tracer: Tracer = OFF,
        leadership: Leadership | None = None,
    ) -> None:
        self._config = config
        self._leadership = leadership
        security = security or Security()
        cached = cache is not None and cache.mode != "off"
        catalog = Catalog(load_profile(config), cached)
        self._membership = Membership(clock, config.lease_s)
        settings = cache or CacheConfig()
        self._embedding = Embedding(lambda: open_embedder(settings))
        self._reuse = Reuse(settings, self._membership, clock, self._embedding) if cached else None

        def share_of(tenant: str) -> Share:
            return security.terms_now(clock.now()).share(tenant)

        policy = make_policy(config.policy, share_of)
        predictor = load_predictor(config)
        watch = open_watch(quality, predictor) if quality and quality.shadow_share > 0 else None
        if watch is not None:
            predictor = watched(predictor, watch)
        self._prompts = PromptReader(predictor, self._embedding, self._reuse, settings.look_up_s)
        self._dispatcher = Dispatcher(
            clock,
            config,
            self._membership,
            catalog,
            predictor,
            policy,
            self._reuse,
            share_of,
        )
        self._shadow = (
            Shadow(
                clock,
                quality,
                self._dispatcher,
                catalog,
                self._membership,
                watch,
                Judge(quality.scorer, quality.clip),
            )
            if quality is not None and watch is not None
            else None
        )
        self.metrics = Metrics(
            clock,
            config.max_in_flight,
            self._dispatcher,
            catalog,
            self._membership,
            self._reuse,
        )
        self.metrics.add(lambda: policy_families(policy, clock))
        self.metrics.add(lambda: prompt_families(self._prompts))
        if (shadow := self._shadow) is not None:
            self.metrics.add(lambda: shadow_families(shadow))
        if leadership is not None:
            self.metrics.add(lambda: leadership_families(leadership))
        self._residence = Residence(clock, self._membership, config.policy == ARGUS)
        self._dispatcher.on_offers = self._residence.note
        self._dispatcher.leads = self._leads
        self.metrics.add(lambda: residency_families(self._residence, clock))
        self._settling = Settling(clock, self._dispatcher.knows, config.max_in_flight)
        adoption = Adoption(clock, config, self._dispatcher, catalog, predictor, uuid.uuid4().hex)
        self._watchdog = Watchdog(clock, self._membership, self._dispatcher, config.node_wait_s)
        keys = security.keys
        guard = Guard(None if keys is None else keys.current, clock.now)
        gate = None if leadership is None else Gate(leadership.check)
        self._server = RpcServer(guard=guard, gate=gate, certificates=security.certificates)
        door = Door(clock, security, catalog)
        self._keeping = Keeping(clock, self._membership, door.limits, policy, config.policy)
        self._save: Save | None = None
        self._parts = Parts(clock)
        self._tasks: list[asyncio.Task[None]] = []
        self._draining = False
        self._server.add(
            image_pb2_grpc.add_ImageServiceServicer_to_server,
            ImageService(
                clock,
                self._dispatcher,
                catalog,
                self._membership,
                door,
                self._settling,
                self._prompts,
                tracer,
            ),
            IMAGE_SERVICE,
        )
        self._cluster = ClusterService(
            clock,
            config,
            self._membership,
            catalog,
            self._dispatcher,
            adoption,
            self._settling,
            _no_epoch if leadership is None else leadership.epoch_held,
            self._show_health,
            guard,
            self._reuse,
            self._prompts,
            self._residence,
        )
        self._server.add(
            cluster_pb2_grpc.add_ClusterServiceServicer_to_server, self._cluster, CLUSTER_SERVICE
        )
        self._server.add(
            admin_pb2_grpc.add_AdminServiceServicer_to_server,
            AdminService(
                clock,
                config,
                self._dispatcher,
                catalog,
                self._membership,
                self._reuse,
                self._shadow,
                self._residence,
                leadership,
            ),
            ADMIN_SERVICE,
        )

    async def start(self, bind: str = "") -> str:
        """Listen, and return HOST:PORT. Without a leadership, lead.

        Args:
            bind: where; empty: where the settings say.

        Raises:
            ConfigError: the address cannot be listened on.
        """
        address = await self._server.start(bind or self._config.bind, "coordinator.bind")
        if self._leadership is None:
            file = StateFile(Path(self._config.state_file)) if self._config.state_file else None
            state, age_s = file.load() if file else ("", 0.0)
            await self.lead(state, age_s, file.save if file else None)
        return address

    async def lead(self, state: str = "", age_s: float = 0.0, save: Save | None = None) -> None:
        """Serve from now on.

        Args:
            state: what another coordinator left, or this one before it was started again.
            age_s: seconds since that was written.
            save: keeps what is learned from now on; None: nobody does.
        """
        nodes = self._keeping.restore(state, age_s)
        self._settling.begin(nodes, self._config.lease_s)
        await self._show_health()
        self._tasks.append(asyncio.create_task(self._watch()))
        self._save = save
        if save is not None:
            self._tasks.append(asyncio.create_task(self._keeping.save_always(save)))

    async def stop(self) -> None:
        """Refuse new requests, wait for those in flight, let the nodes go, and close the port.

        Where the lead is lost meanwhile, nothing more can be given out: the rest is handed over.
        """
        self._draining = True
        self._dispatcher.close()
        if self._shadow is not None:
            await self._shadow.stop()
        await self._show_health()
        waits: list[Coroutine[Any, Any, object]] = [self._dispatcher.wait_empty()]
        if self._leadership is not None:
            waits.append(self._leadership.lost.wait())
        await first_of(*waits, within_s=self._config.drain_grace_s)
        if not self._leads():
            await self.hand_over("this coordinator leads no more")
            return
        if not self._dispatcher.flights:
            for member in self._membership.members:
                member.settle()
        stopping = UnavailableError("the coordinator is stopping")
        self._dispatcher.abort_all(stopping)
        await self._end(stopping)

    async def hand_over(self, why: str) -> None:
        """Close the port and let go of everything: another coordinator leads, or soon will.

        Nodes keep the rows, and clients that ask again elsewhere find them there.
        """
        self._draining = True
        self._dispatcher.close()
        if self._shadow is not None:
            await self._shadow.stop()
        if self._save is not None and self._leadership is not None and self._leadership.holds:
            await self._keeping.save(self._save)
        leaving = UnavailableError(why)
        self._dispatcher.hand_over(leaving)
        for member in self._membership.members:
            member.close(leaving)
        if self._leadership is not None:
            # Before calls are waited for: the next one need not.
            await self._leadership.resign()
        await self._end(leaving)

    def shown(self) -> AbstractAsyncContextManager[object]:
        """Show the metrics, inside the block, where the settings say.

        Raises:
            ConfigError: the address cannot be listened on.
        """
        return shown_metrics(self.metrics, self._config.metrics, METRICS)

    async def _end(self, why: UnavailableError) -> None:
        for member in self._membership.members:
            if not member.closed:  # It would lose what it is still to be told.
                member.close(why)
        await self._server.stop(STOP_GRACE_S)
        await self._prompts.stop()
        if self._reuse is not None:
            await self._reuse.stop()
        await self._embedding.close()
        await self._residence.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._save is not None and self._leadership is None:
            # The rows have ended with this coordinator: no node need be waited for.
            await self._keeping.save(self._save)

    async def _show_health(self) -> None:
        """Say that images are served while some node takes work and nobody stops us."""
        leads = self._leads()
        for service in (WHOLE_SERVER, CLUSTER_SERVICE, ADMIN_SERVICE):
            await self._server.set_serving(service, leads)
        serving = leads and not self._draining and self._membership.accepts_work
        await self._server.set_serving(IMAGE_SERVICE, serving)

    def _leads(self) -> bool:
        return self._leadership is None or self._leadership.holds

    async def _watch(self) -> None:
        """Do what time alone brings about, again and again."""
        checks: list[tuple[str, Callable[[], None]]] = [
            ("the watchdog", self._watchdog.check),
            ("settling", self._settling.check),
            ("the pulse", self._cluster.pulse),
            ("turning out nodes", self._cluster.turn_out),
            ("residence", self._residence.check),
        ]
        if self._shadow is not None:
            checks.append(("the watch of live pictures", self._shadow.check))
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + WATCH_INTERVAL_S
            await asyncio.sleep(WATCH_INTERVAL_S)
            self._prompts.hear(loop.time() - due_s)
            # Whoever leads no more decides nothing more: what there is will be handed over.
            for name, do in checks if self._leads() else ():
                with self._parts.part(name):
                    do()
            with self._parts.part("showing health"):
                await self._show_health()


def _no_epoch() -> int:
    """Return the number of leaderships that nobody contends for."""
    return 0
