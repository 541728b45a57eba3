"""Two coordinators, two nodes and a PostgreSQL as real processes, and load on them."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from grpc_health.v1 import health_pb2, health_pb2_grpc

from argus.client import AsyncClient, Image, Options, Retries
from argus.errors import ArgusError
from argus.models import bundled_dir
from argus.rpc.channel import open_channel

MODEL = "scenes-small"
PROMPT = "a red circle"
OPTIONS: Options = {"variant": MODEL, "steps": 8}
STARTED_S = 300.0
"""Loading and measuring a model takes a while where cores are shared."""
SERVING = health_pb2.HealthCheckResponse.SERVING
ONCE = Retries(attempts=1)


class Process:
    """One `argus` command, its log in a file."""

    def __init__(self, log: Path, *arguments: str) -> None:
        self.arguments = arguments
        self.log = log
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-P", "-m", "argus.cli.main", *self.arguments]
        self._file = self.log.open("a")
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self._file, text=True
        )

    def listening(self) -> str:
        """Return the address that it says it listens on."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("listening "), self.log.read_text()
        return line.split()[1]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self) -> int:
        return await asyncio.to_thread(self.process.wait, 60.0)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._file.close()


class Coordinator(Process):
    """One of those that stand by for each other."""

    def __init__(self, log: Path, dsn: str, cluster: str, lease_s: float) -> None:
        settings = log.with_suffix(".toml")
        settings.write_text(
            f'[standby]\npostgres = "{dsn}"\ncluster = "{cluster}"\nlease_s = {lease_s}\n'
            '[coordinator]\nmetrics = "off"\n[cache]\nmode = "off"\n'
        )
        common = ("coordinator", "--standby", "--config", str(settings), "--bind")
        super().__init__(log, *common, "127.0.0.1:0")
        self.address = self.listening()
        self.arguments = (*common, self.address)

    async def leads(self) -> bool:
        """Whether its health says that it serves."""
        async with open_channel(self.address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            try:
                answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=0.5)
            except Exception:  # it is gone, or hangs
                return False
        return bool(answer.status == SERVING)

    async def restart(self) -> None:
        """End it as an operator would, and start it again where it was."""
        self.signal(signal.SIGTERM)
        assert await self.ended() == 0, self.log.read_text()
        self.start()
        assert await asyncio.to_thread(self.listening) == self.address


class StandbyCluster:
    """Everything, started on entry; killed on exit.

    Args:
        folder: of logs.
        dsn: of a PostgreSQL.
        lease_s: of the seat.
    """

    def __init__(self, folder: Path, dsn: str, lease_s: float = 3.0) -> None:
        self._folder = folder
        self._dsn = dsn
        self._lease_s = lease_s
        self.coordinators: list[Coordinator] = []
        self.nodes: dict[str, Process] = {}

    async def __aenter__(self) -> Self:
        try:
            for name in ("coordinator-a", "coordinator-b"):
                log = self._folder / f"{name}.log"
                cluster = self._folder.name
                self.coordinators.append(Coordinator(log, self._dsn, cluster, self._lease_s))
            for name in ("n1", "n2"):
                self.nodes[name] = Process(
                    self._folder / f"{name}.log",
                    *("node", "--coordinator", self.address, "--name", name),
                    *("--model", str(bundled_dir() / MODEL), "--device", "cpu", "--threads", "1"),
                    *("--max-lanes", "2", "--slots", "2", "--cache", "off"),
                )
            await self.joined("n1", "n2")
        except BaseException:
            self._kill()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._kill()
        if error is not None:
            for log in sorted(self._folder.glob("*.log")):
                print(f"--- {log.name}\n{log.read_text()[-4000:]}")

    def _kill(self) -> None:
        for process in (*self.coordinators, *self.nodes.values()):
            process.kill()

    @property
    def address(self) -> str:
        """Of both coordinators, as nodes and clients are given it."""
        return ",".join(one.address for one in self.coordinators)

    async def leader(self) -> Coordinator:
        """Return the coordinator that serves, once there is one."""
        found: list[Coordinator] = []

        async def one_leads() -> bool:
            found[:] = [one for one in self.coordinators if await one.leads()]
            return bool(found)

        await until(one_leads)
        return found[0]

    def other(self, than: Coordinator) -> Coordinator:
        return next(one for one in self.coordinators if one is not than)

    async def joined(self, *names: str) -> None:
        """Wait until nodes are members."""

        async def are_members() -> bool:
            async with AsyncClient(self.address, retries=ONCE) as client:
                try:
                    status = await client.status()
                except ArgusError:
                    return False
            return set(names) <= {node.hello.node for node in status.nodes}

        await until(are_members, STARTED_S)

    async def images_made(self) -> int:
        """Return how many pictures the nodes that run now have made."""
        async with AsyncClient(self.address) as client:
            # What was made last is in a heartbeat that a node begins after this.
            first = await self._heartbeats(client)

            async def have_beaten() -> bool:
                beats = await self._heartbeats(client)
                return all(beats[n].sequence >= first[n].sequence + 2 for n in first)

            await until(have_beaten)
            assert set(first) == set(self.nodes)
            return sum(beat.images_total for beat in (await self._heartbeats(client)).values())

    async def _heartbeats(self, client: AsyncClient) -> dict[str, Any]:
        status = await client.status()
        return {node.hello.node: node.heartbeat for node in status.nodes}


async def until(holds: Callable[[], Any], limit_s: float = 60.0) -> None:
    """Wait for something that another process brings about."""
    end_s = time.monotonic() + limit_s
    while not await holds():
        assert time.monotonic() < end_s, f"did not come about within {limit_s:g} s"
        await asyncio.sleep(0.02)


@dataclass
class Answer:
    """What became of one request; times are those of `time.monotonic`."""

    seed: int
    asked_s: float
    accepted_s: float = 0.0
    answered_s: float = 0.0
    images: list[bytes] = field(default_factory=list)
    attempts: int = 0
    error: str = ""


@dataclass
class Load:
    """Workers that ask for one picture after the other, without a deadline, until told to stop."""

    address: str
    workers: int = 6
    answers: list[Answer] = field(default_factory=list)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._work(i)) for i in range(self.workers)]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def _work(self, worker: int) -> None:
        async with AsyncClient(self.address) as client:
            number = 0
            while not self._stop.is_set():
                answer = Answer(1000 * worker + number, time.monotonic())
                self.answers.append(answer)
                await self._ask(client, answer)
                if answer.error:
                    return
                number += 1

    async def _ask(self, client: AsyncClient, answer: Answer) -> None:
        try:
            async for event in client.stream(PROMPT, seed=answer.seed, **OPTIONS):
                answer.accepted_s = answer.accepted_s or time.monotonic()
                if isinstance(event, Image):
                    answer.images.append(event.result.data)
                    answer.attempts = event.result.attempts
                    answer.answered_s = time.monotonic()
        except ArgusError as error:
            answer.error = str(error)

    @property
    def answered(self) -> int:
        return sum(bool(answer.images) for answer in self.answers)

    async def go_on(self, more: int) -> None:
        """Wait until so many more are answered."""
        wanted = self.answered + more

        async def are_answered() -> bool:
            errors = [answer.error for answer in self.answers if answer.error]
            assert not errors, errors
            return self.answered >= wanted

        await until(are_answered, STARTED_S)

    def check(self) -> None:
        """Every request was answered, with one picture."""
        wrong = [a for a in self.answers if len(a.images) != 1 or a.error]
        assert not wrong, [(a.seed, len(a.images), a.error) for a in wrong]

    def longest_gap_s(self) -> float:
        """Return the longest time between two answers."""
        times = sorted(a.answered_s for a in self.answers if a.images)
        return max(b - a for a, b in zip(times, times[1:], strict=False))

    def first_answer_s(self, after_s: float, asked_before: bool) -> float:
        """Return when the first was answered after a moment, of those asked before or after it."""
        return min(
            a.answered_s
            for a in self.answers
            if a.answered_s > after_s and (a.asked_s < after_s) == asked_before
        )
