"""`make chaos`: faults under open-loop load on real processes; what was lost, and for how long.

Exit status 1 when an accepted request got no picture, or a picture came twice.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import chaos_ledger as ledger
import record
from arrivals import poisson
from chaos_cluster import ChaosCluster, clients
from chaos_faults import FAULTS, Fault, Scene
from client_load import Outcome, ask, asking, outcomes_of, send_all

from argus.client import AsyncClient, Retries
from argus.rpc.loop import run

T = TypeVar("T")
PATIENT = Retries(attempts=8, when_full=False)
"""What is full says so, which is what is to be measured; what is away is asked again."""
GRACE_S = 90.0
"""From the end of the load until what has not ended counts as lost."""
WHOLE_WITHIN_S = 120.0
ASKED_AGAIN = 8
"""Requests of each fault that are asked for again with the same id."""
STEPS = 4
WAVE_OF_WHOLE = 24
VARIANT = "scenes-small"
SPARE_IN_FLIGHT = 2
NODE_FLAGS = ("--device", "cpu", "--threads", "1", "--slots", "4", "--max-lanes", "4",
              "--cache", "off")  # fmt: skip


@dataclass(slots=True)
class Chaos:
    """The run: one cluster, one fault after another."""

    cluster: ChaosCluster
    folder: Path
    rate: float
    most: float
    """Pictures a second at most, as they are asked for without a deadline: of a few steps."""
    most_whole: float
    """The same with nothing asked for but a picture, at the reference level."""
    usual: int = 0
    """Most requests in flight while nothing was wrong."""
    count: int = 0

    async def one(self, fault: Fault) -> dict[str, Any]:
        """Let one fault happen and return its row."""
        async with clients(self.cluster.address, 4, PATIENT) as users:
            before = await self.cluster.wait(lambda now: now.in_flight == 0, WHOLE_WITHIN_S)
            scene = Scene(self.cluster, users[0], self.folder)
            outcomes = self._requests(fault)
            load = asyncio.create_task(self._load(users, fault, outcomes))
            await asyncio.sleep(fault.before_s)
            fault_s = time.monotonic()
            await fault.act(scene)
            over_s = time.monotonic()
            await load
            whole = await self._whole()
            again = await _asked_again(users[0], outcomes)
        answered = sum(one.answered for one in outcomes + scene.own)
        surplus = 0
        if whole is not None and not fault.restarts_coordinator and fault.deadline_s is None:
            surplus = whole - before.answered - answered
        wrong = ledger.duplicated(outcomes, again, surplus)
        row = self._row(fault, outcomes, wrong, fault_s, over_s, scene)
        if fault is FAULTS[0]:
            seen = [m.in_flight for m in self.cluster.moments if m.at_s >= fault_s]
            self.usual = max(seen, default=0)
        return row

    def _requests(self, fault: Fault) -> list[Outcome]:
        most = self.most if fault.deadline_s is None else self.most_whole
        rate = fault.of_most * most if fault.of_most else self.rate
        arrivals = poisson(rate, fault.load_s, seed=self.count)
        made = outcomes_of("chaos", arrivals, first=self.count)
        self.count += len(made)
        return made

    async def _load(
        self, users: Sequence[AsyncClient], fault: Fault, outcomes: Sequence[Outcome]
    ) -> None:
        """Send every request at its time and wait for how it ends."""
        options: dict[str, Any] = {"variant": VARIANT, "steps": STEPS}
        if fault.deadline_s is not None:
            options = {"deadline_s": fault.deadline_s}
        await send_all(users, outcomes, GRACE_S, asking(**options))

    async def _whole(self) -> int | None:
        """Wait until all nodes are there and nothing is in flight; return what was answered."""
        everybody = frozenset(self.cluster.members)
        with contextlib.suppress(TimeoutError):
            now = await self.cluster.wait(
                lambda now: everybody <= now.nodes and now.in_flight == 0, WHOLE_WITHIN_S
            )
            self.cluster.moments.append(now)
            return now.answered
        return None

    def _row(
        self,
        fault: Fault,
        outcomes: Sequence[Outcome],
        wrong: Sequence[str],
        fault_s: float,
        over_s: float,
        scene: Scene,
    ) -> dict[str, Any]:
        lost = ledger.lost(outcomes)
        late = [one for one in lost if fault.deadline_s and one.error in LATE]
        refused = ledger.refusals_ms(outcomes)
        end_s = max(one.due_s for one in outcomes)
        notes = [*scene.notes, *sorted({f"{o.error}: {o.message}"[:120] for o in lost})[:3], *wrong]
        return {
            "fault": fault.name,
            "offered": len(outcomes),
            "accepted": sum(one.accepted_s is not None for one in outcomes),
            "answered": sum(one.answered for one in outcomes),
            "late": len(late),
            "lost": len(lost) - len(late),
            "duplicated": len(wrong),
            "replayed": sum(one.attempts > 1 for one in outcomes),
            "refused": sum(one.refused for one in outcomes),
            "refused p50 ms": ledger.shown(ledger.quantile(refused, 0.5)),
            "refused p99 ms": ledger.shown(ledger.quantile(refused, 0.99)),
            "longest gap s": ledger.shown(ledger.longest_gap_s(outcomes, fault_s, end_s)),
            "fault lasted s": ledger.shown(over_s - fault_s),
            "whole after s": ledger.shown(
                ledger.whole_after_s(
                    self.cluster.moments,
                    frozenset(self.cluster.members),
                    fault_s,
                    self.usual + SPARE_IN_FLIGHT,
                )
            ),
            "notes": "; ".join(notes).replace("|", "/"),
        }


LATE = frozenset({"DeadlineError", "OverloadedError"})
"""How a request with a deadline ends that was accepted and could not be on time after all."""


async def _asked_again(client: AsyncClient, outcomes: Sequence[Outcome]) -> dict[str, str]:
    """Ask again for some of the pictures with the same ids; return their digests by id."""
    answered = [one for one in outcomes[-100:] if one.answered]
    chosen = random.Random(1).sample(answered, min(ASKED_AGAIN, len(answered)))
    repeated = [Outcome(one.request_id, one.seed, 0.0) for one in chosen]
    for one in repeated:
        await ask(client, "a red circle", one, variant=VARIANT, steps=STEPS)
    return {one.request_id: one.digest for one in repeated if one.answered}


async def capacity(address: str, wave: int = 60, **options: Any) -> float:
    """Return the pictures a second that nodes make when they have enough to do.

    Args:
        address: of the coordinator.
        wave: pictures that are asked for at once.
        options: of each.
    """
    async with clients(address, 4, PATIENT) as users:
        made = [Outcome(f"most-{uuid.uuid4().hex}", 2**41 + n, 0.0) for n in range(wave)]
        start_s = time.monotonic()
        await asyncio.gather(
            *(ask(users[n % 4], "a red circle", one, **options) for n, one in enumerate(made))
        )
        return sum(one.answered for one in made) / (time.monotonic() - start_s)


async def chaos(arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Run the faults asked for; return their rows."""
    async with ChaosCluster(folder, arguments.nodes, ("--cache", "off"), NODE_FLAGS) as cluster:
        most = await capacity(cluster.address, variant=VARIANT, steps=STEPS)
        whole = await capacity(cluster.address, WAVE_OF_WHOLE)
        rate = arguments.rate or min(20.0, max(2.0, arguments.load * most))
        said = f"{most:.1f} pictures/s of {STEPS} steps at most, {whole:.1f} at the reference level"
        print(f"{said}; {rate:.1f} are asked for", file=sys.stderr)
        run_ = Chaos(cluster, folder, rate, most, whole)
        rows = []
        for fault in chosen(arguments.only):
            row = await run_.one(fault)
            print(row, file=sys.stderr, flush=True)
            rows.append(row)
    return rows


async def unless_told(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T:
    """Do some work to its end, or give it up in good order when the process is told to end."""
    doing = asyncio.create_task(work)
    told = asyncio.create_task(stop.wait())
    await asyncio.wait({doing, told}, return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    if not doing.done():
        doing.cancel()
    return await doing


def chosen(only: Sequence[str]) -> list[Fault]:
    """Return the faults whose names hold one of the words; the first always, it tells the usual."""
    return [
        fault
        for fault in FAULTS
        if not only or fault is FAULTS[0] or any(word in fault.name for word in only)
    ]


def main() -> int:
    """Run, write the table, and say by the exit status whether the promises held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--load", type=float, default=0.3, help="share of what they make at most")
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second instead")
    parser.add_argument("--only", action="append", default=[], help="a word of a fault's name")
    parser.add_argument("--logs", type=Path, help="keep the logs of the processes here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        try:
            rows = run(lambda stop: unless_told(stop, chaos(arguments, Path(name))))
        finally:
            if arguments.logs is not None:
                shutil.copytree(name, arguments.logs, dirs_exist_ok=True)
    print(record.write(arguments.out, "chaos", {"faults": rows}))
    bad = [row["fault"] for row in rows if row["lost"] or row["duplicated"]]
    if bad:
        print("lost or duplicated: " + ", ".join(bad), file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
