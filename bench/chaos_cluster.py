"""A coordinator and nodes as processes of their own, each node behind a network of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import daemons
from daemons import Daemon
from tcp_proxy import TcpProxy

from argus.client import AsyncClient, Retries
from argus.errors import ArgusError

RESTART_S = 0.5
"""A process that ended is started again after so long, as `argus up` and init systems do."""
READY_S = 300.0
POLL_S = 0.1


def free_port() -> int:
    """Return a port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(slots=True)
class Moment:
    """The cluster at a moment of the monotonic clock; `answered` is the coordinator's count."""

    at_s: float
    nodes: frozenset[str]
    in_flight: int
    answered: int


@dataclass(slots=True)
class Member:
    """A node, the network to it, and whether it is started again when it ends."""

    daemon: Daemon
    network: TcpProxy
    kept: bool = True
    exits: list[int] = field(default_factory=list)


class ChaosCluster:
    """Use as an async context manager; inside, every node is a member.

    Args:
        folder: for logs.
        nodes: how many.
        coordinator_flags: of `argus coordinator`.
        node_flags: of `argus node`.
        environment: settings of all of them.

    Attributes:
        metrics: HOST:PORT where each process shows them, by its name.
    """

    def __init__(
        self,
        folder: Path,
        nodes: int,
        coordinator_flags: Sequence[str] = (),
        node_flags: Sequence[str] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        self._folder = folder
        self._names = [f"node-{number}" for number in range(nodes)]
        self._node_flags = tuple(node_flags)
        self._environment = environment or {}
        self._stack = AsyncExitStack()
        self.metrics = {name: f"127.0.0.1:{free_port()}" for name in ("coordinator", *self._names)}
        self.address = f"127.0.0.1:{free_port()}"
        self.coordinator = daemons.coordinator(
            folder / "coordinator.log",
            self.address,
            coordinator_flags,
            self.metrics["coordinator"],
            self._environment,
        )
        self.members: dict[str, Member] = {}
        self.moments: list[Moment] = []
        self.coordinator_kept = True

    async def __aenter__(self) -> ChaosCluster:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        self._stack.push_async_callback(asyncio.to_thread, self.coordinator.end, 20.0)
        self.coordinator.start()
        await asyncio.to_thread(self.coordinator.first_line, "listening")
        self.status_client = await self._stack.enter_async_context(
            AsyncClient(self.address, retries=Retries(attempts=1))
        )
        for name in self._names:
            network = await self._stack.enter_async_context(TcpProxy(self.address))
            environment = {"ARGUS_NODE_METRICS": self.metrics[name], **self._environment}
            log = self._folder / f"{name}.log"
            daemon = daemons.node(name, network.address, log, self._node_flags, environment)
            self.members[name] = Member(daemon, network)
            self._stack.push_async_callback(asyncio.to_thread, daemon.end, 20.0)
            daemon.start()
        for run in (self._watch, self._supervise):
            task = asyncio.create_task(run())
            self._stack.push_async_callback(_ended, task)
        await self.wait(lambda now: len(now.nodes) == len(self.members), READY_S)

    # -- looking ---------------------------------------------------------------------------------

    async def look(self) -> Moment | None:
        """Return the present state; None where the coordinator does not answer."""
        try:
            async with asyncio.timeout(2.0):
                status = await self.status_client.status()
        except (ArgusError, TimeoutError):
            return None
        present = frozenset(node.hello.node for node in status.nodes if not node.draining)
        return Moment(time.monotonic(), present, status.in_flight, int(status.counters.answered))

    async def wait(self, wanted: Callable[[Moment], bool], within_s: float) -> Moment:
        """Return the first moment from now on that is as wanted.

        Raises:
            TimeoutError: none came.
        """
        async with asyncio.timeout(within_s):
            while True:
                now = await self.look()
                if now is not None and wanted(now):
                    return now
                await asyncio.sleep(POLL_S)

    async def _watch(self) -> None:
        while True:
            now = await self.look()
            if now is not None:
                self.moments.append(now)
            await asyncio.sleep(POLL_S)

    # -- keeping it up ---------------------------------------------------------------------------

    async def _supervise(self) -> None:
        """Start again what has ended."""
        while True:
            await asyncio.sleep(POLL_S)
            for member in self.members.values():
                if member.kept and not member.daemon.alive:
                    member.exits.append(member.daemon.process.returncode)
                    await asyncio.sleep(RESTART_S)
                    member.daemon.start()
            if self.coordinator_kept and not self.coordinator.alive:
                await asyncio.sleep(RESTART_S)
                self.coordinator.start()

    async def restart_in_order(self, name: str, within_s: float = 120.0) -> int:
        """Drain a node, wait until it has left, start it again, and wait for it to join."""
        member = self.members[name]
        member.kept = False
        try:
            await self.status_client.drain(name)
            status = await asyncio.to_thread(member.daemon.process.wait, within_s)
            member.daemon.start()
            await self.wait(lambda now: name in now.nodes, within_s)
        finally:
            member.kept = True
        return status

    def processes(self) -> dict[str, Any]:
        """Return all processes by name."""
        nodes = {name: member.daemon for name, member in self.members.items()}
        return {"coordinator": self.coordinator, **nodes}


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def clients(address: str, count: int, retries: Retries) -> AsyncIterator[list[AsyncClient]]:
    """Open so many clients of a coordinator."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(AsyncClient(address, retries=retries))
            for _ in range(count)
        ]
