"""The node daemon's life: build the engine, join, rejoin, leave."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from argus.clock import MonotonicClock
from argus.config import Config
from argus.control.backlog import NodeBacklog
from argus.errors import (
    AlreadyExistsError,
    ArgusError,
    ConfigError,
    DeadlineError,
    InternalError,
    InvalidArgumentError,
    UnavailableError,
)
from argus.metrics.exposition import shown_metrics
from argus.node.folders import model_folders
from argus.node.health import NodeHealth
from argus.node.metrics import NodeMetrics
from argus.node.rows import Rows
from argus.node.session import Fence, Session
from argus.node.traces import RowTraces
from argus.rpc.address import parse_addresses
from argus.rpc.channel import open_channel
from argus.rpc.dial import Dialling, dialling
from argus.tracing.opening import open_tracer
from argus.types import OFF

if TYPE_CHECKING:
    from argus.node.build import Node

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0
LONGEST_ROUND_S = 0.4
"""Between two rounds over several coordinators: one of them is about to lead."""
SETTING = "node.coordinator"
LOOK_S = 0.1
ALIVE_S = 1.0
"""An idle device thread shows life four times a second."""
HANGS_S = 10.0
STALL_FACTOR = 10.0
"""The device hangs when it did nothing for so many seconds, and so many times its longest work."""


async def serve(
    config: Config, stop: asyncio.Event, on_joined: Callable[[], None] | None = None
) -> None:
    """Run a node until `stop` is set, its rows done within the grace period.

    Args:
        config: all settings.
        stop: ends it in good order.
        on_joined: called whenever the coordinator has taken it in.

    Raises:
        ArgusError: a model cannot be served, the coordinator refuses the node or stays away for
            longer than `node.reconnect_s`, or the device thread died.
    """
    model_folders(config.node)
    _dialling(config)
    tracer = open_tracer(config.tracing, "argus-node", config.node.name)
    node = await asyncio.to_thread(_build, config)
    try:
        # The coordinator shows what its nodes say; a node's own door is for those who want it.
        own = NodeMetrics(node.info, node.engine.stats, node.cache)
        health = NodeHealth(node.info, node.engine)
        door = config.node.metrics or OFF
        async with shown_metrics(own, door, "node.metrics", health.checks):
            traces = RowTraces(node.info.name, tracer)
            await _stay_joined(config, node, stop, health, traces, on_joined or _nobody)
    finally:
        await asyncio.to_thread(node.close)
        await asyncio.to_thread(tracer.close)


def _nobody() -> None:
    """Tell nobody."""


def _build(config: Config) -> Node:
    # Seconds of imports that nobody should wait for when a folder is missing.
    from argus.node.build import build_node

    return build_node(config)


def _dialling(settings: Config) -> Dialling:
    """Return how to dial the coordinator, read anew: keys and certificates are rotated.

    Raises:
        ConfigError: a file of them cannot be used, or the key would cross a network in clear text.
    """
    found = dialling(settings.tls, settings.auth)
    try:
        for address in parse_addresses(settings.node.coordinator, SETTING):
            found.check(address)
    except InvalidArgumentError as error:
        raise ConfigError(f"auth.{error.field}: {error.description} (tls.insecure)") from error
    if found.tls is not None:
        found.tls.credentials()
    return found


async def _stay_joined(
    settings: Config,
    node: Node,
    stop: asyncio.Event,
    health: NodeHealth,
    traces: RowTraces,
    on_joined: Callable[[], None],
) -> None:
    config = settings.node
    rows = Rows(
        node.engine,
        node.cache,
        MonotonicClock(),
        traces,
        kept_s=config.kept_s,
        kept_bytes=config.kept_bytes,
    )
    membership = _Membership(settings, node, rows, health, on_joined)
    addresses = parse_addresses(config.coordinator, SETTING)
    while True:
        for address in addresses:
            if membership.is_over(stop) or await membership.serve(address, stop):
                return
        try:
            await asyncio.wait_for(membership.ends(stop), membership.pause_s(len(addresses)))
        except TimeoutError:
            continue


class _Membership:
    """One node's stays with coordinators, one after the other."""

    def __init__(
        self,
        settings: Config,
        node: Node,
        rows: Rows,
        health: NodeHealth,
        on_joined: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._config = settings.node
        self._node = node
        self._rows = rows
        self._health = health
        self._on_joined = on_joined
        self._fence = Fence()
        self._loop = asyncio.get_running_loop()
        self._away_s: float | None = None
        self._leaving_s: float | None = None
        self._pause_s = FIRST_PAUSE_S
        self._has_joined = False

    async def serve(self, address: str, stop: asyncio.Event) -> bool:
        """Work for one coordinator as long as it is there; return whether the node has left it.

        Raises:
            ArgusError: the node must end.
        """
        node = self._node
        await _device_lives(node, stop)
        shown = _dialling(self._settings)
        async with open_channel(address, shown.tls) as channel:
            session = Session(
                channel, node.info, node.engine, self._rows, self._fence, node.cache, shown.metadata
            )
            try:
                await session.run(stop, self._config.drain_grace_s, self._joined)
            except (UnavailableError, DeadlineError, AlreadyExistsError) as error:
                # The coordinator may see a cut later than the node, and then still holds its
                # name; at the first join a taken name is a mistake of the operator.
                if isinstance(error, AlreadyExistsError) and not self._has_joined:
                    raise
                if not node.engine.stats().alive:
                    raise InternalError("the device thread is dead") from error
                self._away(address, error)
                return False
            finally:
                self._health.joined = False
        return True

    def is_over(self, stop: asyncio.Event) -> bool:
        """Return whether there is nothing to rejoin for: the node leaves, and has no row to hand
        over, or no time left for it."""
        if not (stop.is_set() or self._node.engine.draining):
            return False
        self._node.engine.drain()
        if self._leaving_s is None:
            self._leaving_s = self._loop.time()
        late = self._loop.time() - self._leaving_s > self._config.drain_grace_s
        return late or not self._has_joined or not self._rows.unsettled

    async def ends(self, stop: asyncio.Event) -> None:
        """Wait until the node is told to leave, if it has not been yet."""
        if self._leaving_s is not None:
            await asyncio.Event().wait()
        await stop.wait()

    def pause_s(self, addresses: int) -> float:
        """Return the seconds until coordinators are dialled again."""
        longest_s = LONGEST_PAUSE_S if addresses == 1 else LONGEST_ROUND_S
        self._pause_s = min(2 * self._pause_s, longest_s)
        return self._pause_s

    def _joined(self) -> None:
        self._pause_s, self._has_joined, self._away_s = FIRST_PAUSE_S, True, None
        self._health.joined = True
        self._on_joined()

    def _away(self, address: str, error: ArgusError) -> None:
        """Note that a coordinator is not there.

        Raises:
            UnavailableError: none has been for too long.
        """
        now_s = self._loop.time()
        if self._away_s is None:
            self._away_s = now_s
            log.warning("coordinator %s: %s; trying again", address, error)
        else:
            log.debug("coordinator %s: %s", address, error)
        if now_s - self._away_s > self._config.reconnect_s:
            raise UnavailableError(
                f"coordinator {self._config.coordinator} away for {self._config.reconnect_s:g} s: "
                f"{error}"
            ) from error


async def _device_lives(node: Node, stop: asyncio.Event) -> None:
    """Wait until the device thread shows life: a node whose device hangs is not to be given work.

    Raises:
        InternalError: it hangs.
    """
    hangs_s = HANGS_S + STALL_FACTOR * NodeBacklog(node.info).slowest_s()
    while (idle_s := node.engine.stats().device_idle_s) > ALIVE_S and not stop.is_set():
        if idle_s > hangs_s:
            raise InternalError(f"the device did nothing for {idle_s:.1f} s")
        await asyncio.sleep(LOOK_S)
