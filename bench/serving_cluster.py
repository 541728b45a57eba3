"""Node daemons that stay, and one coordinator after the other, each with another policy.

All policies then have the same nodes with the same measured costs; what changes in seconds is who
decides. Every process is one that `argus up` would start.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from argus.cli.children import Child
from argus.cli.coordinator import LISTENING
from argus.client import AsyncClient
from argus.client.retries import Retries
from argus.errors import ArgusError, UnavailableError

END_S = 60.0
READY_S = 300.0
"""For models to load and warm up on a machine with other work."""
EMBEDDED_S = 60.0
IDLE_S = 60.0
"""Time for a coordinator to become idle after its start."""
IDLE_SHARE, IDLE_LOOK_S, IDLE_LOOKS = 0.1, 0.5, 3
"""Of a core, over that time, so often in a row: what an idle coordinator takes at most."""
POLL_S = 0.2

CONFIG = """\
[coordinator]
levels = {levels}
metrics = "off"
drain_grace_s = 5.0
lease_s = 10.0
[node]
threads = 1
slots = {slots}
max_lanes = {lanes}
reconnect_s = 300.0
[cache]
mode = "off"
"""
"""Nodes are patient, since coordinators change; nothing is in flight when one ends."""


def write_config(folder: Path, levels: Path, slots: int) -> Path:
    """Write the settings of all processes and return their file.

    Args:
        folder: where it goes.
        levels: the level file.
        slots: rows that a node steps together.
    """
    file = folder / "argus.toml"
    quoted = json.dumps(str(levels.resolve()))
    file.write_text(CONFIG.format(levels=quoted, slots=slots, lanes=2 * slots), encoding="utf-8")
    return file


class ServingCluster:
    """CPU nodes under changing coordinators, used as a context manager.

    Args:
        nodes: node daemons.
        config: file of settings for all processes.
    """

    def __init__(self, nodes: int, config: Path) -> None:
        self.names = tuple(f"node-{i}" for i in range(nodes))
        self._common = ("--config", str(config.resolve()), "--log-level", "error")
        self._address = "127.0.0.1:0"
        self._nodes: list[Child] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.gather(*(node.end(END_S) for node in self._nodes))

    @asynccontextmanager
    async def coordinator(self, policy: str) -> AsyncIterator[AsyncClient]:
        """Run a coordinator of a policy; yield a client of it once all nodes have joined.

        Raises:
            UnavailableError: a process ended, or the nodes do not come.
        """
        # Nodes look for the next coordinator where the last one was.
        flags = ("--bind", self._address, "--policy", policy, *self._common)
        child = Child("coordinator", ("coordinator", *flags), announces=True)
        await child.start()
        try:
            self._address = await child.first_line(LISTENING)
            async with AsyncClient(self._address, retries=Retries(attempts=1)) as client:
                await self._start_nodes(client)
                await self._all_joined(client)
                yield client
        finally:
            await child.end(END_S)

    async def _start_nodes(self, client: AsyncClient) -> None:
        """Start the nodes that do not run yet, one after the other.

        They measure what steps cost when they start, and would take each other's time for theirs.
        """
        for name in self.names[len(self._nodes) :]:
            dial = ("--coordinator", self._address, "--name", name)
            node = Child(name, ("node", *dial, *self._common))
            self._nodes.append(node)
            await node.start()
            await self._all_joined(client)

    async def _all_joined(self, client: AsyncClient) -> None:
        """Wait until every node that was started is a member."""
        joined = asyncio.ensure_future(self._until_members(client))
        ends = {asyncio.ensure_future(node.ended()): node for node in self._nodes}
        try:
            await asyncio.wait(
                {joined, *ends}, timeout=READY_S, return_when=asyncio.FIRST_COMPLETED
            )
            for end, node in ends.items():
                if end.done():
                    raise UnavailableError(f"{node.name} {end.result()}")
            if not joined.done():
                raise UnavailableError(f"the nodes did not join within {READY_S:g} s")
            joined.result()
        finally:
            for task in (joined, *ends):
                task.cancel()
            await asyncio.gather(joined, *ends, return_exceptions=True)

    async def _until_members(self, client: AsyncClient) -> None:
        started = set(self.names[: len(self._nodes)])
        while True:
            status = await client.status()
            if started <= {node.hello.node for node in status.nodes}:
                return
            await asyncio.sleep(POLL_S)


async def until_predicted(client: AsyncClient, prompt: str, level: str, mean: float) -> None:
    """Wait until a coordinator predicts by prompt, which it does not before its embedder is loaded.

    Args:
        client: of the coordinator.
        prompt: whose prediction at `level` is not the mean.
        level: any but the reference.
        mean: quality stated of it.

    Raises:
        UnavailableError: that does not come.
    """
    for _ in range(int(EMBEDDED_S / POLL_S)):
        try:
            image = await client.generate(prompt, level=level, deadline_s=EMBEDDED_S, seed=0)
        except ArgusError as error:
            raise UnavailableError(f"the cluster makes no pictures: {error}") from error
        # Images carry single precision.
        if abs(image.predicted_quality - mean) > 1e-5:
            return
        await asyncio.sleep(POLL_S)
    raise UnavailableError(f"prompts were not embedded within {EMBEDDED_S:g} s")


async def until_idle() -> None:
    """Wait until the coordinator has loaded what it loads behind its back, its embedder above all.

    On a machine whose cores it shares with nodes these seconds are theirs, and what it learns of
    rows meanwhile is what it goes by for the next five hundred.

    Raises:
        UnavailableError: that does not come.
    """
    before, idle = processor_seconds()["coordinator"], 0
    for _ in range(int(IDLE_S / IDLE_LOOK_S)):
        await asyncio.sleep(IDLE_LOOK_S)
        now = processor_seconds()["coordinator"]
        idle = idle + 1 if now - before < IDLE_SHARE * IDLE_LOOK_S else 0
        if idle == IDLE_LOOKS:
            return
        before = now
    raise UnavailableError(f"the coordinator was not idle within {IDLE_S:g} s")


def processor_seconds() -> Mapping[str, float]:
    """Return the processor seconds that this process, the coordinator and the nodes have taken."""
    me = psutil.Process()
    taken = {"client": _seconds(me), "coordinator": 0.0, "nodes": 0.0}
    for child in me.children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it ended meanwhile
            command = child.cmdline()
            if "coordinator" in command:
                taken["coordinator"] += _seconds(child)
            elif "node" in command:
                taken["nodes"] += _seconds(child)
    return taken


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system
