"""`make soak MINUTES=30`: hours of mixed load in small, and whether anything grows.

Coordinator and nodes are real processes. Clients ask for pictures with and without deadlines and
previews, and some leave before the end. Exit status 1 when memory, files, threads or tasks grew,
a slot or a row is left over, an accepted request got no picture, or goodput fell.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import record
from arrivals import COLOURS, RELATIONS, SHAPES, poisson
from chaos import PATIENT, STEPS, VARIANT, capacity, unless_told
from chaos_cluster import ChaosCluster, clients
from client_load import Outcome, ask, outcomes_of, send_all

from argus.client import AsyncClient
from argus.rpc.loop import run

SAMPLE_S = 2.0
GRACE_S = 60.0
WARM_UP_SHARE = 0.25
WINDOW_SHARE = 0.15
"""Of the run, at its end and after its warm-up: what is compared."""
MOST_GROWTH = 0.05
SLACK = 3
"""Files, threads and tasks that may be more at the end: gRPC opens and closes some as it likes."""
LEAST_GOODPUT = 0.9
LEAVES_SHARE = 0.1
DEADLINE_S = 10.0
TASKS = re.compile(r"^argus_asyncio_tasks (\S+)$", re.MULTILINE)
NODE_FLAGS = ("--device", "cpu", "--threads", "1", "--slots", "4", "--max-lanes", "4")
SETTINGS = {
    # Small enough to be full before the warm-up ends: what is bounded must be seen at its bound.
    "ARGUS_CACHE_MEMORY_BYTES": str(4 * 2**20),
    "ARGUS_COORDINATOR_RESULT_BYTES": str(2**20),
}


@dataclass(frozen=True, slots=True)
class Sample:
    """A process at a moment: bytes of memory, and how many files, threads and tasks it has."""

    at_s: float
    rss: int
    files: int
    threads: int
    tasks: int


@dataclass(slots=True)
class Soak:
    """One run: the processes' samples by name, and what became of the requests."""

    cluster: ChaosCluster
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    left: int = 0
    """Requests whose client left on purpose."""

    async def sample(self) -> None:
        """Look at every process."""
        for name, daemon in self.cluster.processes().items():
            now = await asyncio.to_thread(look, daemon.pid, self.cluster.metrics[name])
            self.samples.setdefault(name, []).append(now)

    async def sampling(self) -> None:
        """Look at every process from time to time."""
        while True:
            await self.sample()
            await asyncio.sleep(SAMPLE_S)

    async def load(self, users: Sequence[AsyncClient], rate: float, seconds: float) -> None:
        """Send mixed requests, whatever happens."""
        rng = random.Random(11)
        outcomes = outcomes_of("soak", poisson(rate, seconds, seed=11))
        await send_all(users, outcomes, GRACE_S, lambda user, one: self._one(user, one, rng))

    async def _one(self, user: AsyncClient, outcome: Outcome, rng: random.Random) -> None:
        prompt = (
            f"a {rng.choice(COLOURS)} {rng.choice(SHAPES)} {rng.choice(RELATIONS)} "
            f"a {rng.choice(COLOURS)} {rng.choice(SHAPES)}"
        )
        options: dict[str, Any] = {"variant": VARIANT, "steps": rng.choice((4, 6, 8))}
        if rng.random() < 0.5:
            options["deadline_s"] = DEADLINE_S
        if rng.random() < 0.2:
            options["preview_every"] = 2
        asking = ask(user, prompt, outcome, **options)
        if rng.random() >= LEAVES_SHARE:
            self.outcomes.append(outcome)
            await asking
            return
        self.left += 1
        leaving = asyncio.create_task(asking)
        await asyncio.wait({leaving}, timeout=rng.uniform(0.0, 0.5))
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)


def look(pid: int, metrics: str) -> Sample:
    """Return a process as it is now; its tasks by its own account."""
    process = psutil.Process(pid)
    with urllib.request.urlopen(f"http://{metrics}/metrics", timeout=10) as answer:
        found = TASKS.search(answer.read().decode())
    return Sample(
        time.monotonic(),
        process.memory_info().rss,
        process.num_fds(),
        process.num_threads(),
        0 if found is None else round(float(found[1])),
    )


def growth(samples: Sequence[Sample], idle: tuple[Sample, Sample]) -> dict[str, Any]:
    """Return how a process changed from the end of the warm-up to the end.

    Args:
        samples: under load, in order.
        idle: before the load, warmed up, and after it.
    """
    first, last = windows([sample.rss for sample in samples])
    rss = statistics.median(last) / statistics.median(first) - 1.0
    before, after = idle
    more = {
        name: getattr(after, name) - getattr(before, name) for name in ("files", "threads", "tasks")
    }
    grew = rss > MOST_GROWTH or any(value > SLACK for value in more.values())
    return {
        "memory MiB": statistics.median(first) / 2**20,
        "at the end": statistics.median(last) / 2**20,
        "growth %": 100 * rss,
        **{f"{name} idle": getattr(before, name) for name in more},
        **{f"{name} at the end": getattr(after, name) for name in more},
        "flat": not grew,
    }


def windows(values: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
    """Return what is compared: a stretch after the warm-up and one at the end."""
    begin = round(WARM_UP_SHARE * len(values))
    length = max(1, round(WINDOW_SHARE * len(values)))
    return values[begin : begin + length], values[-length:]


def by_minute(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Return what came of the requests of each minute."""
    start_s = outcomes[0].due_s
    minutes: dict[int, list[Outcome]] = {}
    for one in outcomes:
        minutes.setdefault(int((one.due_s - start_s) // 60), []).append(one)
    return [
        {
            "minute": minute + 1,
            "offered": len(those),
            "answered": sum(one.answered for one in those),
            "on time": sum(_on_time(one) for one in those),
            "refused": sum(one.refused for one in those),
            "p99 s": statistics.quantiles([_took_s(one) for one in those], n=100)[98]
            if len(those) > 1
            else _took_s(those[0]),
        }
        for minute, those in sorted(minutes.items())
    ]


def _took_s(one: Outcome) -> float:
    return (one.ended_s or float("inf")) - one.due_s


def _on_time(one: Outcome) -> bool:
    return one.answered and _took_s(one) <= DEADLINE_S


def goodput_ratio(outcomes: Sequence[Outcome]) -> float:
    """Return the share on time at the end, relative to that after the warm-up."""
    first, last = windows(outcomes)
    before, after = (statistics.fmean(_on_time(one) for one in those) for those in (first, last))
    return after / before if before else 0.0


async def soak(arguments: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], bool]:
    """Run; return the tables and whether everything held."""
    async with ChaosCluster(folder, arguments.nodes, (), NODE_FLAGS, SETTINGS) as cluster:
        rate = arguments.rate or arguments.load * await capacity(
            cluster.address, variant=VARIANT, steps=STEPS
        )
        print(f"{rate:.1f} requests a second", file=sys.stderr, flush=True)
        run_ = Soak(cluster)
        async with clients(cluster.address, 4, PATIENT) as users:
            await run_.load(users, rate, min(60.0, 15.0 * arguments.minutes))
            await cluster.wait(lambda now: now.in_flight == 0, 120.0)
            await asyncio.sleep(5.0)
            await run_.sample()
            before = {name: samples[-1] for name, samples in run_.samples.items()}
            run_.samples, run_.outcomes, run_.left = {}, [], 0
            sampling = asyncio.create_task(run_.sampling())
            await run_.load(users, rate, 60.0 * arguments.minutes)
            sampling.cancel()
            await asyncio.gather(sampling, return_exceptions=True)
            await cluster.wait(lambda now: now.in_flight == 0, 120.0)
            await asyncio.sleep(5.0)
            under_load = {name: tuple(samples) for name, samples in run_.samples.items()}
            await run_.sample()
            status = await cluster.status_client.status()
    processes = [
        {"process": name, **growth(samples, (before[name], run_.samples[name][-1]))}
        for name, samples in under_load.items()
    ]
    nodes = status.nodes
    lost = [o for o in run_.outcomes if o.accepted_s is not None and not o.answered]
    ratio = goodput_ratio(run_.outcomes)
    figures = [
        ("accepted, but no picture", len(lost), not lost),
        ("in flight at the end", status.in_flight, status.in_flight == 0),
        *(
            (name, value, value == 0)
            for name, value in (
                ("rows on nodes at the end", sum(n.heartbeat.rows for n in nodes)),
                ("rows waiting on nodes", sum(n.heartbeat.waiting for n in nodes)),
                (
                    "slots not given back",
                    sum(n.hello.slots - n.heartbeat.slots_free for n in nodes),
                ),
                ("nodes that ended", sum(len(m.exits) for m in cluster.members.values())),
            )
        ),
        ("on time at the end, relative to the beginning", ratio, ratio >= LEAST_GOODPUT),
        ("clients that left early", run_.left, True),
    ]
    tables = {
        "what is left": [
            {"figure": name, "value": value, "as it should be": good}
            for name, value, good in figures
        ],
        "processes": processes,
        "minutes": by_minute(run_.outcomes),
    }
    return tables, all(row["flat"] for row in processes) and all(good for _, _, good in figures)


def main() -> int:
    """Run, write the tables, and say by the exit status whether everything held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--load", type=float, default=0.5, help="share of what they make at most")
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second instead")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        tables, held = run(lambda stop: unless_told(stop, soak(arguments, Path(name))))
    print(record.write(arguments.out, "soak", tables))
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
