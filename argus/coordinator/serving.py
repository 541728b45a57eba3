"""A coordinator from its settings: alone, or in turns with those that stand by."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from argus.clock import Clock, MonotonicClock
from argus.config import Config
from argus.coordinator.leadership import Leadership
from argus.coordinator.security import Security, open_security
from argus.coordinator.service import Coordinator
from argus.coordinator.turns import take_turns
from argus.tracing.opening import open_tracer
from argus.tracing.spans import Tracer


async def serve(config: Config, stop: asyncio.Event, on_ready: Callable[[str], None]) -> None:
    """Run the coordinator until `stop` is set, then drain and return.

    Args:
        config: settings; those of nodes are not used.
        stop: set to end.
        on_ready: called with HOST:PORT once the port is bound; nodes may still be missing.

    Raises:
        ConfigError: the level file, the predictor, the address or a file of keys, tenants or
            certificates cannot be used, or other machines could reach the coordinator unasked.
    """
    clock = MonotonicClock()
    security = open_security(config, clock)
    tracer = open_tracer(config.tracing, "argus-coordinator")
    try:
        if config.coordinator.standby:
            leadership = _open_leadership(config, clock)
            await take_turns(
                lambda: _make(config, clock, security, tracer, leadership),
                *(leadership, stop, on_ready),
            )
        else:
            await _serve_alone(_make(config, clock, security, tracer), stop, on_ready)
    finally:
        await asyncio.to_thread(tracer.close)


async def _serve_alone(
    coordinator: Coordinator, stop: asyncio.Event, on_ready: Callable[[str], None]
) -> None:
    address = await coordinator.start()
    try:
        async with coordinator.shown():
            on_ready(address)
            await stop.wait()
    finally:
        await coordinator.stop()


def _open_leadership(config: Config, clock: Clock) -> Leadership:
    # Needs psycopg, which only those have who have a database.
    from argus.coordinator.seat_postgres import PostgresSeat

    standby = config.standby
    seat = PostgresSeat(standby.postgres, standby.cluster, standby.lease_s)
    return Leadership(clock, seat, standby.lease_s)


def _make(
    config: Config,
    clock: Clock,
    security: Security,
    tracer: Tracer,
    leadership: Leadership | None = None,
) -> Coordinator:
    return Coordinator(
        config.coordinator,
        clock,
        config.cache,
        config.quality,
        security=security,
        tracer=tracer,
        leadership=leadership,
    )
