"""Keeps daemons running as actors of a Ray cluster: started, watched, ended in order."""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, suppress
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayError

from argus.config import Config
from argus.errors import UnavailableError
from argus.ray.daemon import LEFT, NodeDaemon, Prepare
from argus.ray.ground import (
    RayNode,
    check_cluster_address,
    check_secrets,
    coordinator_address,
    daemons_that_fit,
)
from argus.ray.parcel import Parcel, pack

POLL_S = 1.0
SAY_EVERY_S = 30.0
RENEW_AFTER_S = 5.0
FAREWELL_S = 5.0
"""What leaving may take beyond `node.drain_grace_s`."""
AT_ONCE = 8
"""Calls that an actor answers side by side."""

log = logging.getLogger(__name__)


@contextmanager
def ray_cluster(address: str) -> Iterator[None]:
    """Connect to a Ray cluster. What was started on it ends with the connection.

    Call in the main thread, and before signals are handled: Ray handles SIGTERM its own way.

    Raises:
        ConfigError: `address` is not one.
        UnavailableError: there is no cluster, or one of another version of Ray or Python.
    """
    check_cluster_address(address)
    # Ray makes the current folder importable in every worker, and kernels/ must not be.
    with tempfile.TemporaryDirectory() as empty, chdir(empty):
        try:
            ray.init(address=address, configure_logging=False)
        except (ConnectionError, RuntimeError, ValueError, RayError) as error:
            raise UnavailableError(f"no Ray cluster at {address}: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


async def run_crew(
    config: Config,
    count: int | None,
    prepare: Prepare,
    stop: asyncio.Event,
    on_joined: Callable[[list[str]], None],
) -> None:
    """Run daemons until `stop` is set, or all were drained; call inside `ray_cluster`.

    Ray starts a daemon again that dies, elsewhere if need be.

    Args:
        config: settings; `node.coordinator` is where the coordinator listens.
        count: of daemons; None: as many as there is room for now.
        prepare: called in each daemon's process.
        stop: ends it; the daemons finish their rows.
        on_joined: called with the daemons' names when all have joined.

    Raises:
        ArgusError: there is room for none, the coordinator cannot be reached from Ray's nodes, or
            a daemon ended before all had joined.
    """
    crew = await asyncio.to_thread(_plan, config, count, prepare)
    life = asyncio.ensure_future(_live(crew, on_joined))
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({life, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if life.done():
            life.result()
    finally:
        life.cancel()
        stopped.cancel()
        await asyncio.gather(life, stopped, return_exceptions=True)
        within_s = config.node.drain_grace_s + FAREWELL_S
        await asyncio.gather(*(member.end(within_s) for member in crew))


def _plan(config: Config, count: int | None, prepare: Prepare) -> list[_Member]:
    nodes = [
        RayNode(node["NodeManagerAddress"], node["Resources"])
        for node in ray.nodes()
        if node["Alive"]
    ]
    if count is None:
        count = daemons_that_fit(config.ray, nodes, ray.available_resources())
    coordinator = coordinator_address(config.node.coordinator, config.ray.advertise, nodes)
    cpus = config.ray.cpus
    node = replace(
        config.node,
        coordinator=coordinator,
        # Of the GPUs of its machine an actor sees only the one that Ray gave to it.
        device="cpu" if cpus else "cuda",
        threads=config.node.threads or cpus,
    )
    parcels = [pack(replace(config, node=replace(node, name=f"node-{i}"))) for i in range(count)]
    check_secrets(parcels[0].secrets, nodes, _ray_speaks_tls(), config.tls.insecure)
    takes: dict[str, float] = {"num_cpus": cpus} if cpus else {"num_gpus": 1}
    return [_Member(parcel, prepare, takes) for parcel in parcels]


def _ray_speaks_tls() -> bool:
    # Ray's own setting, which is nowhere but in its environment.
    return os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true")


async def _live(crew: list[_Member], on_joined: Callable[[list[str]], None]) -> None:
    for member in crew:
        await member.start()
    await asyncio.gather(*(member.joined() for member in crew))
    on_joined([member.name for member in crew])
    await asyncio.gather(*(member.keep_alive() for member in crew))


class _Member:
    """One daemon: an actor that Ray starts again as often as it dies.

    The actor belongs to this process and ends with it, however that goes: daemons must not outlive
    the coordinator that `argus up` runs beside it, nor come back to look for it.
    """

    def __init__(self, parcel: Parcel, prepare: Prepare, takes: dict[str, float]) -> None:
        self.name = str(parcel.settings["node.name"])
        self._arguments = (parcel, prepare)
        self._takes = takes
        self._actor: Any = None
        self._where = ""
        """Host and process; empty while it does not run."""

    async def start(self) -> None:
        """Ask Ray for the actor; it runs when there is room for it."""
        options = {
            **self._takes,
            "name": self.name,
            "max_restarts": -1,
            # Calls to an actor that died fail instead of waiting, so that its death is noticed.
            "max_task_retries": 0,
            "max_concurrency": AT_ONCE,
            "scheduling_strategy": "SPREAD",
        }
        actor = ray.remote(NodeDaemon).options(**options)
        self._actor = await asyncio.to_thread(lambda: actor.remote(*self._arguments))

    async def joined(self) -> None:
        """Wait until the daemon has joined.

        Raises:
            UnavailableError: it ended first.
        """
        try:
            await self._placed()
            reason = await self._actor.joined.remote()
        except RayError as error:
            raise UnavailableError(f"{self.name} was lost before it was ready: {error}") from error
        if reason != LEFT:
            raise UnavailableError(f"{self.name} ended before it was ready: {reason}")

    async def keep_alive(self) -> None:
        """Watch the daemon, and say what happens to it, until it has left in good order."""
        while not await self._has_left():
            await self._started_again()
        log.info("%s has left", self.name)
        await self._release()

    async def _has_left(self) -> bool:
        """Wait until the daemon ends and return whether it was in good order."""
        try:
            reason = await self._actor.ended.remote()
        except ActorUnavailableError:
            log.error("%s was lost; Ray starts it again", self.name)
            return False
        except ActorDiedError:
            log.error("%s was ended for good; another is asked for", self.name)
            return False
        if reason != LEFT:
            log.error("%s failed: %s; Ray starts it again", self.name, reason)
        return bool(reason == LEFT)

    async def _started_again(self) -> None:
        """Wait until the daemon has another process; Ray is asked for one where it gave up."""
        before, self._where = self._where, ""
        while not self._where:
            await asyncio.sleep(POLL_S)
            try:
                await self._placed(before)
            except ActorUnavailableError:
                continue
            except ActorDiedError:
                await asyncio.sleep(RENEW_AFTER_S)
                await self.start()

    async def _placed(self, before: str = "") -> None:
        """Wait until the actor has a process, and note where, unless it is that of `before`."""
        asked = asyncio.ensure_future(self._ask_where())
        try:
            while not (await asyncio.wait({asked}, timeout=SAY_EVERY_S))[0]:
                log.info("%s waits for room on the Ray cluster", self.name)
            where = asked.result()
        finally:
            asked.cancel()
        if where != before:
            log.info("%s runs on %s", self.name, where)
            self._where = where

    async def _ask_where(self) -> str:
        return str(await self._actor.where.remote())

    async def end(self, within_s: float) -> None:
        """Ask the daemon to leave and wait; end it where that takes over `within_s` seconds."""
        try:
            # One that waits for room, or to be started again, has nothing to finish.
            if self._actor is not None and self._where:
                log.info("%s is asked to leave", self.name)
                async with asyncio.timeout(within_s):
                    await self._actor.drain.remote()
                    await self._actor.ended.remote()
        except TimeoutError:
            log.error("%s did not end within %g s and is killed", self.name, within_s)
        except RayError:
            pass  # it is not running, and must not be started again
        finally:
            await self._release()

    async def _release(self) -> None:
        """End the actor for good."""
        if self._actor is not None:
            with suppress(RayError):
                await asyncio.to_thread(ray.kill, self._actor)
            self._actor = None
