"""The node daemon's life: build the engine, join, rejoin, leave."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from argus.config import Config
from argus.control.backlog import NodeBacklog
from argus.errors import (
    AlreadyExistsError,
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
from argus.node.session import Session
from argus.node.traces import RowTraces
from argus.rpc.channel import open_channel
from argus.rpc.dial import Dialling, dialling
from argus.tracing.opening import open_tracer
from argus.types import OFF

if TYPE_CHECKING:
    from argus.node.build import Node

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0
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
        found.check(settings.node.coordinator)
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
    loop = asyncio.get_running_loop()
    last_seen_s = loop.time()
    pause_s = FIRST_PAUSE_S

    has_joined = False

    def joined() -> None:
        nonlocal pause_s, has_joined
        pause_s, has_joined = FIRST_PAUSE_S, True
        on_joined()
        health.joined = True

    while not stop.is_set():
        await _device_lives(node, stop)
        shown = _dialling(settings)
        async with open_channel(config.coordinator, shown.tls) as channel:
            session = Session(channel, node.info, node.engine, node.cache, shown.metadata, traces)
            try:
                await session.run(stop, config.drain_grace_s, joined)
            except (UnavailableError, DeadlineError, AlreadyExistsError) as error:
                # The coordinator may see a cut later than the node, and then still holds its
                # name; at the first join a taken name is a mistake of the operator.
                if isinstance(error, AlreadyExistsError) and not has_joined:
                    raise
                if not node.engine.stats().alive:
                    raise InternalError("the device thread is dead") from error
                if pause_s == FIRST_PAUSE_S:
                    last_seen_s = loop.time()
                    log.warning("coordinator %s: %s; trying again", config.coordinator, error)
                if loop.time() - last_seen_s > config.reconnect_s:
                    raise UnavailableError(
                        f"coordinator {config.coordinator} away for {config.reconnect_s:g} s: "
                        f"{error}"
                    ) from error
            finally:
                health.joined = False
        if stop.is_set() or node.engine.draining:
            return
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        try:
            await asyncio.wait_for(stop.wait(), pause_s)
        except TimeoutError:
            continue


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
