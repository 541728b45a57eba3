"""Policies in virtual time: quality and violations against baselines and the clairvoyant bound.

Sections, each with its own file in the folder of results: `search` (the settings of the baselines,
which the others read), `judged`, `variants`, `ablations`, `failures`,
`measured` (the bundled family's own costs and scores), `published`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import control_judged as judged
import control_more as more
import control_plots as plots
import control_published as published
import control_search as search
import record
from control_cells import Job, Row, run_all


@dataclass(frozen=True, slots=True)
class Section:
    """A part that can be run alone.

    Attributes:
        jobs: from the folder of results, requests a trace and seeds.
        tables: from the rows.
        seeds, requests: where nothing else is asked for.
    """

    jobs: Callable[[Path, int, int], list[Job]]
    tables: Callable[[Sequence[Row]], dict[str, list[dict[str, Any]]]]
    seeds: int
    requests: int


SECTIONS = {
    "search": Section(lambda out, requests, seeds: search.jobs(requests), search.tables, 1, 1500),
    "judged": Section(judged.jobs, judged.tables, 5, 2500),
    "variants": Section(more.variant_jobs, more.variant_tables, 3, 2000),
    "ablations": Section(more.ablation_jobs, more.ablation_tables, 3, 2000),
    "failures": Section(more.failure_jobs, more.failure_tables, 5, 2500),
    "measured": Section(more.measured_jobs, more.measured_tables, 3, 3000),
    "published": Section(published.jobs, published.tables, 5, 4000),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    parser.add_argument(
        "--only", action="append", choices=SECTIONS, help="a section; may be given again"
    )
    parser.add_argument("--seeds", type=int, help="traces of each cell")
    parser.add_argument("--requests", type=int, help="of each trace, on average")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument(
        "--missing", action="store_true", help="leave out sections whose results are there"
    )
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.only or SECTIONS:
        if arguments.missing and (arguments.out / f"control_{name}.json").exists():
            continue
        _run(name, arguments)


def _run(name: str, arguments: argparse.Namespace) -> None:
    section = SECTIONS[name]
    seeds = arguments.seeds or section.seeds
    requests = arguments.requests or section.requests
    began, cpu = time.perf_counter(), time.process_time()
    rows = run_all(section.jobs(arguments.out, requests, seeds), arguments.processes, _note(name))
    facts = {
        **record.circumstances(),
        "seeds": seeds if name != "search" else len(search.SEEDS),
        "requests a trace": requests,
        "simulated requests": sum(row.requests for row in rows),
        "minutes taken": round((time.perf_counter() - began) / 60, 1),
        "processes": arguments.processes,
    }
    if arguments.processes == 1:
        facts["minutes of CPU"] = round((time.process_time() - cpu) / 60, 1)
    text = record.write(arguments.out, f"control_{name}", section.tables(rows), facts)
    if name == "judged":
        plots.over_load(rows, arguments.out / "control_load.png")
        plots.over_time(rows, arguments.out / "control_time.png")
    sys.stdout.write(text)


def _note(name: str) -> Callable[[int, int], None]:
    def note(done: int, of: int) -> None:
        sys.stderr.write(f"\r{name}: {done} of {of} traces" + ("\n" if done == of else ""))
        sys.stderr.flush()

    return note


if __name__ == "__main__":
    main()
