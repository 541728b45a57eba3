"""`make overload MINUTES=10`: ten times what the nodes can make, for minutes.

Coordinator and clients are real, and so is every message between them. Nodes are of two kinds, one
after the other: CPU nodes of the bundled family, which share their processors with coordinator and
clients, and nodes that take the time of a row without using a processor here, as devices of their
own would. At last the first are asked for a hundred times what they can make, for a tenth of the
time: the processors alone cannot keep up with that.

Exit status 1 when memory, files, threads or tasks of a process grew, an accepted request was lost,
or one got no answer; how many came late, and how soon the others were refused, is in the tables.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import chaos_ledger as ledger
import daemons
import record
from arrivals import poisson
from chaos import LATE, NODE_FLAGS, capacity, unless_told
from chaos_cluster import ChaosCluster, clients, free_port
from client_load import ONCE, Outcome, open_load
from daemons import Daemon
from soak import Sample, growth, look

from argus.client import AsyncClient
from argus.rpc.loop import run

TIMES, MANY_TIMES = 10.0, 100.0
"""More than can be made at the reference level. The first may still be made at faster ones."""
MANY_SHARE = 0.1
"""Of the minutes, for the second."""
BAR_MS = 50.0
"""Within which who is refused is to be told."""
FIRST_S = 5.0
"""Shown by themselves: what nodes can do under load is not known before they have it."""
SAMPLE_S = 2.0
GRACE_S = 30.0
ROW_STEPS = 4
STEP_S = 0.125
QUICK_SLOTS = 4
REAL_DEADLINE_S = 4.0
WAVE = 40


@dataclass(frozen=True, slots=True)
class Site:
    """A cluster under load.

    Attributes:
        name: as tables show it.
        address: of its coordinator.
        deadline_s: of every request.
        processes: whose memory is looked at.
        metrics: HOST:PORT of each.
    """

    name: str
    address: str
    deadline_s: float
    processes: dict[str, Daemon]
    metrics: dict[str, str]


@asynccontextmanager
async def real_nodes(folder: Path, nodes: int) -> AsyncIterator[Site]:
    """Run CPU nodes of the bundled family."""
    async with ChaosCluster(folder, nodes, ("--cache", "off"), NODE_FLAGS) as cluster:
        name = f"{nodes} CPU nodes on these processors"
        processes = cluster.processes()
        yield Site(name, cluster.address, REAL_DEADLINE_S, processes, cluster.metrics)


@asynccontextmanager
async def nodes_elsewhere(folder: Path, nodes: int) -> AsyncIterator[Site]:
    """Run nodes that work elsewhere."""
    metrics = f"127.0.0.1:{free_port()}"
    log = folder / "coordinator-elsewhere.log"
    with daemons.coordinator(log, flags=("--cache", "off"), metrics=metrics) as coordinator:
        address = coordinator.first_line("listening")
        arguments = ["--coordinator", address, "--nodes", str(nodes), "--step-s", str(STEP_S)]
        arguments += ["--slots", str(QUICK_SLOTS), "--tell-steps"]
        with daemons.script("quick_nodes.py", folder / "quick.log", *arguments) as quick:
            await asyncio.to_thread(quick.first_line, "joined")
            name = f"{nodes} nodes that work elsewhere"
            deadline_s = 3 * ROW_STEPS * STEP_S
            yield Site(
                name,
                address,
                deadline_s,
                {"coordinator": coordinator},
                {"coordinator": metrics},
            )


@dataclass(slots=True)
class Overload:
    """One run on one site."""

    site: Site
    users: Sequence[AsyncClient]
    samples: dict[str, list[Sample]] = field(default_factory=dict)

    async def load(self, name: str, rate: float, seconds: float) -> list[Outcome]:
        """Send requests at their times, whatever happens, and return what became of them."""
        arrivals = poisson(rate, seconds, seed=5)
        deadline_s = self.site.deadline_s
        return await open_load(self.users, name, arrivals, GRACE_S, deadline_s=deadline_s)

    async def sample(self) -> dict[str, Sample]:
        """Look at every process once."""
        found = {}
        for name, daemon in self.site.processes.items():
            found[name] = await asyncio.to_thread(look, daemon.pid, self.site.metrics[name])
        return found

    async def sampling(self) -> None:
        """Look at every process from time to time."""
        while True:
            for name, sample in (await self.sample()).items():
                self.samples.setdefault(name, []).append(sample)
            await asyncio.sleep(SAMPLE_S)


def late(one: Outcome, deadline_s: float) -> bool:
    """Whether a request was accepted and its picture did not come in time."""
    if one.accepted_s is None or one.ended_s is None:
        return False
    return one.error in LATE or (one.answered and one.ended_s - one.sent_s > deadline_s)


def row(what: dict[str, Any], outcomes: Sequence[Outcome], deadline_s: float) -> dict[str, Any]:
    """Return what became of some requests as a row of a table."""
    refused = ledger.refusals_ms(outcomes)
    accepted = [one for one in outcomes if one.accepted_s is not None]
    came_late = sum(late(one, deadline_s) for one in outcomes)
    # A picture that came late was not lost, and a row that was given up for its deadline neither.
    lost = sum(one.error not in LATE for one in ledger.lost(outcomes))
    silent = sum(one.accepted_s is None and one.ended_s is None for one in outcomes)
    return {
        **what,
        "offered": len(outcomes),
        "accepted": len(accepted),
        "on time": len(accepted) - came_late - lost,
        "late %": 100 * came_late / max(1, len(accepted)),
        "lost": lost,
        "no answer": silent,
        "refused": len(refused),
        "refused p50 ms": ledger.shown(ledger.quantile(refused, 0.5)),
        "refused p99 ms": ledger.shown(ledger.quantile(refused, 0.99)),
        f"within {BAR_MS:g} ms %": 100 * sum(x <= BAR_MS for x in refused) / max(1, len(refused)),
    }


def by_time(outcomes: Sequence[Outcome], deadline_s: float) -> list[dict[str, Any]]:
    """Return a row of the first seconds, and of each minute with what follows them."""
    start_s = outcomes[0].due_s
    spans: dict[str, list[Outcome]] = {}
    for one in outcomes:
        at_s = one.due_s - start_s
        name = f"first {FIRST_S:g} s" if at_s < FIRST_S else f"minute {int(at_s // 60) + 1}"
        spans.setdefault(name, []).append(one)
    return [row({"when": name}, those, deadline_s) for name, those in spans.items()]


async def overload(
    site: Site, times: float, minutes: float
) -> tuple[dict[str, Any], dict[str, Any], bool]:
    """Return a site's row, its tables, and whether nothing grew or was lost."""
    await capacity(site.address, WAVE)  # warms up
    most = await capacity(site.address, WAVE)
    async with clients(site.address, 4, ONCE) as users:
        run_ = Overload(site, users)
        await run_.load("warm", times * most, min(20.0, 10.0 * minutes))
        await asyncio.sleep(10.0)
        before = await run_.sample()
        sampling = asyncio.create_task(run_.sampling())
        outcomes = await run_.load("many", times * most, 60.0 * minutes)
        sampling.cancel()
        await asyncio.gather(sampling, return_exceptions=True)
        await asyncio.sleep(10.0)
        after = await run_.sample()
    processes = [
        {"process": name, **growth(samples, (before[name], after[name]))}
        for name, samples in run_.samples.items()
    ]
    what = {
        "nodes": site.name,
        "times": times,
        "most 1/s": round(most, 1),
        "deadline s": site.deadline_s,
    }
    whole = row(what, outcomes, site.deadline_s)
    print(whole, file=sys.stderr, flush=True)
    tables = {
        f"{times:g} times, {site.name}: over time": by_time(outcomes, site.deadline_s),
        f"{times:g} times, {site.name}: processes": processes,
    }
    good = not whole["lost"] and not whole["no answer"] and all(each["flat"] for each in processes)
    return whole, tables, good


async def all_sites(arguments: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], bool]:
    """Run on all sites; return the tables and whether all was well."""
    minutes, nodes = arguments.minutes, arguments.nodes
    runs = (
        (real_nodes, nodes, TIMES, minutes),
        (nodes_elsewhere, arguments.elsewhere, TIMES, minutes),
        (real_nodes, nodes, MANY_TIMES, MANY_SHARE * minutes),
    )
    rows, tables, good = [], {}, []
    for number, (site_of, count, times, lasts) in enumerate(runs):
        if not count:
            continue
        place = folder / str(number)
        place.mkdir()
        async with site_of(place, count) as site:
            whole, more, fine = await overload(site, times, lasts)
        rows.append(whole)
        tables |= more
        good.append(fine)
    return {"more than can be made": rows, **tables}, all(good)


def main() -> int:
    """Run, write the tables, and say by the exit status whether the promises held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--nodes", type=int, default=3, help="CPU nodes; 0: without them")
    parser.add_argument("--elsewhere", type=int, default=4, help="nodes that work elsewhere")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        tables, good = run(lambda stop: unless_told(stop, all_sites(arguments, Path(name))))
    print(record.write(arguments.out, "overload", tables))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
