"""A coordinator and its nodes on one machine, brought up, kept up and taken down together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from argus.cli.children import Child
from argus.cli.coordinator import HARD_END_S, LISTENING
from argus.cli.ray import JOINED
from argus.client import AsyncClient, Retries
from argus.errors import UnavailableError
from argus.rpc.address import format_address, parse_address
from argus.rpc.dial import Dialling

POLL_S = 0.1
ONCE = Retries(attempts=1)
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True, slots=True)
class FamilyPlan:
    """What to start.

    Attributes:
        bind: where the coordinator listens, HOST:PORT.
        coordinator: further arguments of `argus coordinator`.
        nodes: further arguments of `argus node`, by name.
        gateway: further arguments of `argus gateway`; None: none is run.
        ray: further arguments of `argus ray`, which runs nodes elsewhere; None: it is not run.
        grace_s: seconds that running requests get at the end.
        dialling: how the coordinator is asked whether the nodes have joined.
    """

    bind: str
    coordinator: tuple[str, ...]
    nodes: dict[str, tuple[str, ...]]
    grace_s: float
    gateway: tuple[str, ...] | None = None
    ray: tuple[str, ...] | None = None
    dialling: Dialling = Dialling()


Told = Callable[[str], None]


async def run_family(
    plan: FamilyPlan, stop: asyncio.Event, on_ready: Told, on_http: Told | None = None
) -> None:
    """Run until `stop` is set; calls `on_ready` with HOST:PORT when all nodes have joined.

    Then it calls `on_http` with HOST:PORT of the gateway, if there is one.

    Afterwards a child that dies is started again; a node that leaves in good order is not.

    Raises:
        UnavailableError: a child ended before everything was ready.
    """
    family = _Family(plan)
    life = asyncio.ensure_future(family.live(on_ready, on_http))
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({life, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if life.done():
            life.result()
    finally:
        life.cancel()
        stopped.cancel()
        await asyncio.gather(life, stopped, return_exceptions=True)
        await family.end()


class _Family:
    def __init__(self, plan: FamilyPlan) -> None:
        self._plan = plan
        self._coordinator = self._coordinator_at(plan.bind)
        self._nodes: list[Child] = []
        self._ray: Child | None = None
        self._gateway: Child | None = None

    def _coordinator_at(self, bind: str) -> Child:
        arguments = ("coordinator", "--bind", bind, *self._plan.coordinator)
        return Child("coordinator", arguments, announces=True)

    async def live(self, on_ready: Told, on_http: Told | None) -> None:
        """Bring everything up, say so, and keep it up."""
        await self._coordinator.start()
        address = await self._coordinator.first_line(LISTENING)
        server = dialled(address)
        for name, arguments in self._plan.nodes.items():
            command = ("node", "--coordinator", server, "--name", name, *arguments)
            node = Child(name, command, may_leave=True)
            self._nodes.append(node)
            await node.start()
        names = set(self._plan.nodes)
        if self._plan.ray is not None:
            command = ("ray", "--coordinator", address, *self._plan.ray)
            self._ray = Child("ray", command, announces=True, may_leave=True)
            await self._ray.start()
        http = await self._start_gateway(server)
        if self._ray is not None:
            names |= await self._names_on_ray(self._ray)
        await self._all_joined(server, names)
        on_ready(address)
        if http is not None and on_http is not None:
            on_http(http)
        # A coordinator that was given port 0 must come back where its nodes look for it.
        self._coordinator.arguments = self._coordinator_at(address).arguments
        await asyncio.gather(*(child.keep_alive() for child in self._children()))

    async def _start_gateway(self, server: str) -> str | None:
        """Start the gateway, if one is planned, and return where it listens."""
        if self._plan.gateway is None:
            return None
        arguments = ("gateway", "--coordinator", server, *self._plan.gateway)
        self._gateway = Child("gateway", arguments, announces=True)
        await self._gateway.start()
        address = await self._gateway.first_line(LISTENING)
        # It, too, must come back where it was, and flags that come last win.
        self._gateway.arguments = (*self._gateway.arguments, "--http", address)
        return address

    async def _names_on_ray(self, ray: Child) -> set[str]:
        """Return the names of the nodes that have joined from Ray."""
        names = set((await ray.first_line(JOINED)).split())
        # Started again it takes back the room it had, which is not free at once.
        ray.arguments = (*ray.arguments, "--nodes", str(len(names)))
        return names

    def _children(self) -> list[Child]:
        others = [child for child in (self._ray, self._gateway) if child is not None]
        return [self._coordinator, *self._nodes, *others]

    async def _all_joined(self, server: str, names: set[str]) -> None:
        """Wait until every node of these names is a member.

        Raises:
            UnavailableError: a child ended first.
        """
        joined = asyncio.ensure_future(_until_members(server, names, self._plan.dialling))
        ends = {asyncio.ensure_future(child.ended()): child for child in self._children()}
        try:
            await asyncio.wait({joined, *ends}, return_when=asyncio.FIRST_COMPLETED)
            for end, child in ends.items():
                if end.done():
                    raise UnavailableError(f"{child.name} {end.result()} before it was ready")
            joined.result()
        finally:
            for task in (joined, *ends):
                task.cancel()
            await asyncio.gather(joined, *ends, return_exceptions=True)

    async def end(self) -> None:
        """Take everything down: the coordinator lets its requests finish while nodes still run."""
        within_s = self._plan.grace_s + HARD_END_S
        try:
            # HTTP requests are answered while the coordinator is still there.
            if self._gateway is not None:
                await self._gateway.end(within_s)
            await self._coordinator.end(within_s)
            nodes = [*self._nodes, *([] if self._ray is None else [self._ray])]
            await asyncio.gather(*(node.end(within_s) for node in nodes))
        finally:
            for child in self._children():
                child.kill()


def dialled(address: str) -> str:
    """Return the address by which a server that listens on `address` is reached from here."""
    host, port = parse_address(address, "coordinator.bind")
    return format_address(ANYWHERE.get(host, host), port)


async def _until_members(server: str, names: set[str], shown: Dialling) -> None:
    async with AsyncClient(
        server, retries=ONCE, tls=shown.tls, api_key=shown.api_key, insecure=shown.insecure
    ) as client:
        while not await _are_members(client, names):  # noqa: ASYNC110 - no event crosses processes
            await asyncio.sleep(POLL_S)


async def _are_members(client: AsyncClient, names: set[str]) -> bool:
    try:
        status = await client.status()
    except UnavailableError:
        return False
    return names <= {node.hello.node for node in status.nodes} and len(status.variants) > 0
