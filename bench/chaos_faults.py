"""What is done to a cluster under load. Each fault is a coroutine that returns when it is over."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import daemons
from chaos_cluster import ChaosCluster, Member
from client_load import Outcome, ask
from faulty_node import POISON

from argus.client import AsyncClient

CUT_S = 10.0
"""Beyond the lease, so that the node is given up and finds so when the network is back."""
BLIP_S = 1.0
"""Within the lease: nothing at all should come of it."""


@dataclass(slots=True)
class Scene:
    """What a fault has to do with.

    Attributes:
        cluster: under load.
        client: for requests of the fault's own.
        folder: for logs.
        own: outcomes of those requests.
        notes: what else is worth telling.
    """

    cluster: ChaosCluster
    client: AsyncClient
    folder: Path
    own: list[Outcome] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    async def victim(self) -> Member:
        """Return the node that has most to do: what happens to one that is idle harms nobody."""
        nodes = (await self.cluster.status_client.status()).nodes
        busiest = max(nodes, key=lambda node: (node.assigned, node.heartbeat.images_total))
        return self.cluster.members[busiest.hello.node]


Act = Callable[[Scene], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault and the load that it meets.

    Attributes:
        name: as the table shows it.
        act: what happens.
        load_s: seconds of load; the fault comes after `before_s` of them.
        of_most: requests a second, relative to what the cluster makes of them at most at the
            reference level; 0: as usual.
        deadline_s: of every request; None: none.
        restarts_coordinator: so that its counts begin anew.
    """

    name: str
    act: Act
    load_s: float = 25.0
    before_s: float = 5.0
    of_most: float = 0.0
    deadline_s: float | None = None
    restarts_coordinator: bool = False


async def nothing(scene: Scene) -> None:
    """Let it run: what is usual here."""


async def kill_node(scene: Scene) -> None:
    """kill -9."""
    (await scene.victim()).daemon.signal(signal.SIGKILL)


async def stop_node(scene: Scene) -> None:
    """Stop a whole process for longer than its lease, then let it go on."""
    daemon = (await scene.victim()).daemon
    daemon.signal(signal.SIGSTOP)
    await asyncio.sleep(CUT_S)
    daemon.signal(signal.SIGCONT)


async def hang_device(scene: Scene) -> None:
    """Hang the device thread for good; the event loop, and so the heartbeats, go on."""
    member = await scene.victim()
    before = len(member.exits)
    member.daemon.signal(signal.SIGUSR1)
    for _ in range(600):
        if len(member.exits) > before:
            scene.notes.append(f"the node ended itself with code {member.exits[-1]}")
            return
        await asyncio.sleep(0.1)
    scene.notes.append("the node did not end by itself; it was killed")
    member.daemon.signal(signal.SIGKILL)


async def cut_network(scene: Scene) -> None:
    """Let nothing through between a node and the coordinator, then let everything through."""
    weather = (await scene.victim()).network.weather
    weather.open.clear()
    await asyncio.sleep(CUT_S)
    weather.open.set()


async def blink_network(scene: Scene) -> None:
    """The same for less than the lease, three times, then reset every connection once."""
    network = (await scene.victim()).network
    for _ in range(3):
        network.weather.open.clear()
        await asyncio.sleep(BLIP_S)
        network.weather.open.set()
        await asyncio.sleep(2 * BLIP_S)
    network.reset()


async def slow_network(scene: Scene) -> None:
    """300 ms each way and 40 kB a second between one node and the coordinator."""
    weather = (await scene.victim()).network.weather
    weather.delay_s, weather.bytes_per_s = 0.3, 40e3
    await asyncio.sleep(CUT_S)
    weather.delay_s, weather.bytes_per_s = 0.0, 0.0


def liar(kind: str) -> Act:
    """Return the fault of a fourth node that joins and tells stories of its rows."""

    async def act(scene: Scene) -> None:
        log = scene.folder / f"liar-{kind}.log"
        arguments = ("--coordinator", scene.cluster.address, "--kind", kind)
        with daemons.script("lying_node.py", log, *arguments) as lying:
            await asyncio.to_thread(lying.first_line, "joined", 60.0)
            output = lying.process.stdout
            assert output is not None
            try:
                async with asyncio.timeout(120.0):
                    words = await asyncio.to_thread(output.readline)
            except TimeoutError:
                words = "nobody noticed within two minutes"
            scene.notes.append(words.strip())

    return act


async def poison(scene: Scene) -> None:
    """Ask for a picture that kills every node that takes it."""
    outcome = Outcome("poison", seed=2**40, due_s=0.0)
    before = {name: len(member.exits) for name, member in scene.cluster.members.items()}
    await ask(scene.client, f"a red circle of {POISON}", outcome, variant="scenes-small", steps=4)
    await asyncio.sleep(1.0)
    killed = sum(len(m.exits) > before[name] for name, m in scene.cluster.members.items())
    scene.own.append(outcome)
    scene.notes.append(f"{killed} nodes killed, then {outcome.error or 'a picture'}")


async def kill_coordinator(scene: Scene) -> None:
    """kill -9; it is started again as any process that ended is."""
    scene.cluster.coordinator.signal(signal.SIGKILL)


async def rolling_restart(scene: Scene) -> None:
    """Drain each node in turn, and start it again when it has left."""
    for name in scene.cluster.members:
        status = await scene.cluster.restart_in_order(name)
        if status:
            scene.notes.append(f"{name} left with code {status}")


async def stop_coordinator(scene: Scene) -> None:
    """Stop the coordinator for longer than a lease, then let it go on."""
    scene.cluster.coordinator.signal(signal.SIGSTOP)
    await asyncio.sleep(CUT_S)
    scene.cluster.coordinator.signal(signal.SIGCONT)


FAULTS: Sequence[Fault] = (
    Fault("none", nothing, load_s=15.0),
    Fault("kill -9 of a node", kill_node),
    Fault("a node stops for 10 s", stop_node),
    Fault("the device thread hangs", hang_device, load_s=35.0),
    Fault("the network is cut for 10 s", cut_network),
    Fault("the network blinks, then resets", blink_network),
    Fault("a slow network for 10 s", slow_network),
    Fault("a node says the same step for ever", liar("stuck"), load_s=40.0),
    Fault("a node counts beyond the last step", liar("wild"), load_s=25.0),
    Fault("a request that kills nodes", poison, load_s=30.0),
    Fault("rolling restart of the nodes", rolling_restart, load_s=60.0),
    Fault("the coordinator stops for 10 s", stop_coordinator),
    Fault("kill -9 of the coordinator", kill_coordinator, restarts_coordinator=True),
    Fault(
        "ten times what can be made",
        nothing,
        load_s=20.0,
        before_s=0.0,
        of_most=10.0,
        deadline_s=4.0,
    ),
)
