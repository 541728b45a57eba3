"""A gateway before a real coordinator with scripted nodes, and clients for it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import httpx2

from argus.clock import MonotonicClock
from argus.config import GatewayConfig
from argus.gateway.access import Keys
from argus.gateway.service import NOTHING_SHOWN, Gateway
from argus.rpc.dial import Dialling
from argus.rpc.tls import KeyPair
from argus.tracing.spans import OFF, Tracer
from tests.unit.coordinator.scripted import Coordinated, ScriptedNode, coordinated

PATH = "/v1/images/generations"


@dataclass
class Served:
    """A running gateway, what is behind it, and an HTTP client of it."""

    gateway: Gateway
    url: str
    behind: Coordinated
    http: httpx2.AsyncClient
    nodes: list[ScriptedNode] = field(default_factory=list)

    async def ask(self, body: Any, **headers: str) -> httpx2.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post(PATH, json=body, headers=named)

    async def events(self, body: Any) -> list[dict[str, Any]]:
        """Return the data of all events of a streamed request; their names must agree with it."""
        answer = await self.ask({"stream": True, **body})
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("text/event-stream")
        return parse_events(answer.text)


def parse_events(text: str) -> list[dict[str, Any]]:
    events = []
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    return events


@contextlib.asynccontextmanager
async def gateway_at(
    coordinator: str,
    shown: Dialling = NOTHING_SHOWN,
    keys: Keys | None = None,
    pair: KeyPair | None = None,
    tracer: Tracer = OFF,
    **settings: Any,
) -> AsyncGenerator[tuple[Gateway, str], None]:
    defaults = {"bind": "127.0.0.1:0", "poll_s": 0.05, "drain_grace_s": 1.0}
    config = GatewayConfig(**{**defaults, **settings, "coordinator": coordinator})
    gateway = Gateway(config, MonotonicClock(), shown, keys, pair, tracer)
    address = await gateway.start()
    try:
        yield gateway, f"http{'s' if pair else ''}://{address}"
    finally:
        await gateway.stop()


@contextlib.asynccontextmanager
async def served(
    *nodes: ScriptedNode, behind: dict[str, Any] | None = None, **settings: Any
) -> AsyncGenerator[Served, None]:
    async with contextlib.AsyncExitStack() as stack:
        coordinator = await stack.enter_async_context(coordinated(**(behind or {})))
        for node in nodes:
            await stack.enter_async_context(node.joined(coordinator.address))
        gateway, url = await stack.enter_async_context(gateway_at(coordinator.address, **settings))
        client = httpx2.AsyncClient(base_url=url, timeout=20, trust_env=False)
        await stack.enter_async_context(client)
        yield Served(gateway, url, coordinator, client, list(nodes))
