"""Policies on real processes: a coordinator, two CPU nodes, the bundled family, an open loop.

`make bench-serving`; docs/benchmarks.md says what is measured. A run that was stopped goes on where
it ended; one that is whole begins anew, unless `--only` asks for some policies again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import record
from replay import replay as replayed
from serving_cells import CELLS, Cell, CellRun, draw, held_out, kept
from serving_cluster import ServingCluster, processor_seconds, until_predicted, write_config
from serving_report import Judging, Results, plot

from argus.client import AsyncClient
from argus.errors import FailedPreconditionError
from argus.models import bundled_dir
from argus.quality.pictures import WorkFolder, read_pixels
from argus.quality.run import WHOLE, Job, RunPlan, make_pictures
from argus.quality.scorers import Judged, Scorer, open_scorers
from argus.types import Level

POLICIES = ("argus", "argus-paper", "clipper-ha", "clipper-ht", "proteus")
LEVELS = ("base", "small", "base-50th")
"""Of the bundled family's ladder. At a tenth of its steps the base model is as good as at all of
them, so that on the whole ladder there is nothing to choose: see docs/benchmarks.md."""
STEPS = 30
"""Of the reference level. The last level is one step; the predictor knows all three."""
SLO = 3.0
"""Deadline over the latency of a lone request at the reference level."""
NODES, SLOTS = 2, 4
SEED = 30_000
LONE = 7
IN_FLIGHT = 2 * NODES * SLOTS
"""Rows asked for at a time where capacity is measured: every forward is full."""
EDGE = IN_FLIGHT
"""Pictures at both ends of that measurement that do not count: batches are not full there."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured. Times in seconds.

    Attributes:
        policies, cells: who meets what.
        repeats: of everything.
        prompts: of the held-out ones, the first so many.
        seconds: of a cell, the lead included.
        lead_s: its part in which requests are load and not counted.
    """

    policies: tuple[str, ...]
    cells: tuple[Cell, ...]
    repeats: int
    prompts: int
    seconds: int
    lead_s: float


FULL = Extent(POLICIES, CELLS, 3, 120, 12, 2.0)
QUICK = Extent(POLICIES, (CELLS[2], CELLS[3]), 1, 48, 6, 1.0)
WARM, WARM_S = Cell("poisson", 0.8), 7
"""What each turn begins with and nobody counts: policies that plan have no plan before."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What the reference level does, found in the run and before all else.

    Attributes:
        capacity: pictures a second of both nodes in full batches.
        lone_s: seconds of one alone.
    """

    capacity: float
    lone_s: float

    @property
    def slo_s(self) -> float:
        """The deadline."""
        return SLO * self.lone_s


class Run:
    """The whole measurement, kept in a folder turn by turn.

    Args:
        extent: how much.
        folder: where what was measured is kept.
        only: policies that are measured now.
    """

    def __init__(self, extent: Extent, folder: Path, only: Sequence[str]) -> None:
        self._extent = extent
        self._folder = folder
        self._only = only
        self._levels = _levels(folder)
        self._plan = RunPlan(
            held_out()[: extent.prompts],
            (),
            self._levels[:1],
            {"test": extent.repeats},
            SEED,
            STEPS,
        )
        (self._scorer,) = open_scorers(("facts",))

    def forget(self, policies: Sequence[str]) -> None:
        """Let the turns of some policies be measured again."""
        for policy in policies:
            for repeat in range(self._extent.repeats):
                self._turn_file(policy, repeat).unlink(missing_ok=True)

    def is_whole(self) -> bool:
        """Whether every turn was measured."""
        turns = (
            self._turn_file(policy, repeat)
            for policy in self._extent.policies
            for repeat in range(self._extent.repeats)
        )
        return all(file.is_file() for file in turns)

    async def measure(self) -> None:
        """Measure what is missing."""
        settings = {"steps": STEPS, "seed": SEED, "extent": asdict(self._extent)}
        work = WorkFolder(self._folder / "references", settings)
        after = self._folder / "after.json"
        try:
            config = write_config(self._folder, self._folder / "levels.json", SLOTS)
            async with ServingCluster(NODES, config) as cluster:
                async with cluster.coordinator("clipper-ha") as client:
                    measured = await self._references(client, work)
                for repeat in range(self._extent.repeats):
                    await self._repeat(cluster, repeat, measured)
                async with cluster.coordinator("clipper-ha") as client:
                    _write(after, {"lone_s": await self._lone_s(client)})
        finally:
            work.close()

    def results(self) -> tuple[Measured, Results]:
        """Return what was measured, policies and repeats that are missing left out."""
        measured = Measured(**_read(self._folder / "measured.json"))
        scores = _read(self._folder / "scores.json")
        references = {(row["prompt_id"], row["repeat"]): row["score"] for row in scores}
        judging = Judging(references, measured.slo_s, self._extent.lead_s, self._extent.seconds)
        turns: dict[str, dict[int, dict[str, CellRun]]] = {}
        for policy in self._extent.policies:
            for repeat in range(self._extent.repeats):
                file = self._turn_file(policy, repeat)
                if file.is_file():
                    runs = (CellRun.from_json(row) for row in _read(file))
                    turns.setdefault(policy, {})[repeat] = {run.cell: run for run in runs}
        return measured, Results(judging, self._extent.cells, turns)

    def after_s(self) -> float:
        """Return the seconds of a lone request when all turns were over."""
        return float(_read(self._folder / "after.json")["lone_s"])

    # -- the reference level --------------------------------------------------------------------

    async def _references(self, client: AsyncClient, work: WorkFolder) -> Measured:
        """Make the reference level's pictures; how fast they come is the capacity."""
        file = self._folder / "measured.json"
        if file.is_file():
            return Measured(**_read(file))
        lone_s = await self._lone_s(client)
        times: list[float] = []
        await make_pictures(
            self._plan,
            client,
            work,
            IN_FLIGHT,
            lambda done, total: times.append(time.perf_counter()),
        )
        inner = times[EDGE:-EDGE]
        if len(inner) < EDGE:
            raise FailedPreconditionError(
                f"{work.path} has pictures of a run that was stopped before its capacity was "
                "known; delete it"
            )
        measured = Measured((len(inner) - 1) / (inner[-1] - inner[0]), lone_s)
        _write(self._folder / "scores.json", _scores(self._plan, work, self._scorer))
        _write(file, asdict(measured))
        _say(f"capacity {measured.capacity:.2f}/s, deadline {measured.slo_s:.2f} s")
        return measured

    async def _lone_s(self, client: AsyncClient) -> float:
        """Return the median seconds of lone requests at the reference level."""
        reference, prompt = self._levels[0].name, self._plan.prompts[0].text
        taken = []
        for seed in range(LONE):
            began = time.perf_counter()
            await client.generate(prompt, level=reference, steps=STEPS, seed=seed, tenant=WHOLE)
            taken.append(time.perf_counter() - began)
        return median(taken[2:])

    # -- turns ----------------------------------------------------------------------------------

    async def _repeat(self, cluster: ServingCluster, repeat: int, measured: Measured) -> None:
        """Give every policy its turn; who goes first changes from repeat to repeat."""
        names = self._extent.policies
        for policy in (*names[repeat % len(names) :], *names[: repeat % len(names)]):
            file = self._turn_file(policy, repeat)
            if file.is_file() or policy not in self._only:
                continue
            async with cluster.coordinator(policy) as client:
                small = self._levels[1]
                await until_predicted(client, self._plan.prompts[0].text, small.name, small.quality)
                runs = await self._turn(client, repeat, measured)
            _write(file, [run.to_json() for run in runs])
            _say(f"repeat {repeat + 1} of {self._extent.repeats}: {policy}")

    async def _turn(self, client: AsyncClient, repeat: int, measured: Measured) -> list[CellRun]:
        pool = [job for job in self._plan.jobs() if job.key[1] == repeat]
        cells = self._extent.cells
        turned = (*cells[repeat % len(cells) :], *cells[: repeat % len(cells)])
        warm = draw(WARM, measured.capacity, WARM_S, pool, seed=1000 * repeat + 999)
        await replayed(client, [wanted for wanted, _ in warm], measured.slo_s, STEPS)
        return [await self._cell(client, cell, repeat, measured, pool) for cell in turned]

    async def _cell(
        self,
        client: AsyncClient,
        cell: Cell,
        repeat: int,
        measured: Measured,
        pool: Sequence[Job],
    ) -> CellRun:
        seed = 1000 * repeat + self._extent.cells.index(cell)
        drawn = draw(cell, measured.capacity, self._extent.seconds, pool, seed)
        before, began = processor_seconds(), time.perf_counter()
        ended = await replayed(client, [wanted for wanted, _ in drawn], measured.slo_s, STEPS)
        took_s = time.perf_counter() - began
        after = processor_seconds()
        shares = {who: (after[who] - before[who]) / took_s for who in after}
        return CellRun(cell.name, kept(drawn, ended, self._scorer), shares)

    def _turn_file(self, policy: str, repeat: int) -> Path:
        return self._folder / f"turn-{policy}-{repeat}.json"


def _levels(folder: Path) -> list[Level]:
    """Write the level file of the comparison and return its levels, the reference first."""
    shipped = _read(bundled_dir() / "levels.json")
    rows = [row for name in LEVELS for row in shipped["levels"] if row["name"] == name]
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "levels.json", {"reference": shipped["reference"], "levels": rows})
    fields = ("name", "variant", "steps_fraction", "quality")
    return [Level(**{field: row[field] for field in fields}) for row in rows]


def _scores(plan: RunPlan, work: WorkFolder, scorer: Scorer) -> list[dict[str, Any]]:
    jobs = plan.jobs()
    judged = [Judged(job.prompt.text, read_pixels(work.path, job.key)) for job in jobs]
    values = scorer.score(judged)[scorer.columns[0]].tolist()
    return [
        {"prompt_id": job.key[0], "repeat": job.key[1], "score": value}
        for job, value in zip(jobs, values, strict=True)
    ]


def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def _write(file: Path, content: Any) -> None:
    """Write JSON; what is there is whole."""
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps(content) + "\n", encoding="utf-8")
    fresh.replace(file)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write serving.json, serving.md and serving.png."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="default: bench/results; with --quick, --work")
    parser.add_argument("--work", type=Path, help="default: build/serving, or build/serving-quick")
    parser.add_argument("--quick", action="store_true", help="a look of two minutes")
    parser.add_argument(
        "--only", action="append", choices=POLICIES, help="a policy; may be given again"
    )
    parser.add_argument("--repeats", type=int, help="default: 3, with --quick 1")
    settings = parser.parse_args(arguments)
    extent = QUICK if settings.quick else FULL
    if settings.repeats is not None:
        if settings.repeats < 1:
            parser.error(f"--repeats: must be at least 1, not {settings.repeats}")
        extent = replace(extent, repeats=settings.repeats)
    work = settings.work or Path("build/serving-quick" if settings.quick else "build/serving")
    out = settings.out or (work if settings.quick else Path("bench/results"))
    run = Run(extent, work, settings.only or POLICIES)
    if run.is_whole() and settings.only is not None:
        run.forget(settings.only)
    elif run.is_whole():
        shutil.rmtree(work)
        run = Run(extent, work, POLICIES)
    asyncio.run(run.measure())
    measured, results = run.results()
    facts = {
        **record.circumstances(),
        "nodes": f"{NODES} on this machine with one thread and {SLOTS} slots each",
        "steps of the reference level": STEPS,
        "repeats": extent.repeats,
        "capacity of the reference level, pictures/s": round(measured.capacity, 2),
        "a lone request of it before and after, s": f"{measured.lone_s:.3f}, {run.after_s():.3f}",
        "deadline, s": round(measured.slo_s, 3),
    }
    print(record.write(out, "serving", results.tables(), facts))
    plot(results, out / "serving.png")


if __name__ == "__main__":
    main()
