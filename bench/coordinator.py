"""`make bench-coordinator`: what the coordinator adds, with nodes that answer at once.

Clients, coordinator and nodes are processes of their own on this machine; clients are the SDK, the
nodes speak the real Join protocol. A bare grpc.aio server that sends the same messages stands
beside it in the same run: what the two differ by is Argus.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import daemons
import record
from daemons import Daemon

WARM_UP = 200
"""Requests that client_load sends beforehand, on average; they cost processor time too."""
KEPT_UP_MS = 1000.0
"""A server whose p99 is above this at the end of a run was falling behind."""
BAR_RATE = 1500.0
BAR_ADDED_MS = 10.0


@dataclass(frozen=True, slots=True)
class Side:
    """A server under load, and the processes behind it."""

    name: str
    address: str
    server: Daemon
    nodes: Daemon | None


@contextmanager
def sides(folder: Path, nodes: int) -> Iterator[list[Side]]:
    """Start both servers."""
    with ExitStack() as stack:
        echo = stack.enter_context(daemons.script("echo_server.py", folder / "echo.log"))
        bare = Side("bare grpc.aio echo", echo.first_line("listening"), echo, None)
        flags = ("--cache", "off")
        server = stack.enter_context(daemons.coordinator(folder / "coordinator.log", flags=flags))
        address = server.first_line("listening")
        arguments = ("--coordinator", address, "--nodes", str(nodes))
        quick = stack.enter_context(
            daemons.script("quick_nodes.py", folder / "nodes.log", *arguments)
        )
        quick.first_line("joined")
        yield [bare, Side("coordinator", address, server, quick)]


def load(side: Side, name: str, rate: float, seconds: float, folder: Path) -> dict[str, Any]:
    """Run clients at one rate and return what they and the processes say."""
    before = _processor_s(side)
    arguments = ("--server", side.address, "--name", name, "--rate", str(rate))
    with daemons.script(
        "client_load.py", folder / "load.log", *arguments, "--seconds", str(seconds)
    ) as clients:
        assert clients.process.stdout is not None
        line = clients.process.stdout.readline()
    if not line:
        raise RuntimeError(f"the clients failed:\n{clients.last_words()}")
    said: dict[str, Any] = json.loads(line)
    spent = _processor_s(side)
    served = said["answered"] + WARM_UP
    return {
        "server": side.name,
        "rate": rate,
        **{key: said[key] for key in ("offered", "answered", "answered_per_s")},
        "p50 ms": said["p50_ms"],
        "p99 ms": said["p99_ms"],
        "server us": 1e6 * (spent[0] - before[0]) / served,
        "nodes us": 1e6 * (spent[1] - before[1]) / served,
        "clients us": 1e6 * said["client_processor_s"] / max(1, said["answered"]),
        "errors": ", ".join(said["errors"]),
    }


def _processor_s(side: Side) -> tuple[float, float]:
    return side.server.processor_s(), side.nodes.processor_s() if side.nodes else 0.0


def kept_up(row: dict[str, Any]) -> bool:
    """Return whether every request was answered without a growing queue."""
    return bool(row["answered"] == row["offered"] and row["p99 ms"] <= KEPT_UP_MS)


def ladder(side: Side, first: float, seconds: float, folder: Path) -> list[dict[str, Any]]:
    """Raise the rate by a fifth until the server does not keep up twice in a row."""
    rows: list[dict[str, Any]] = []
    rate, missed = first, 0
    while missed < 2:
        row = load(side, f"{side.name[:4]}-{len(rows)}", rate, seconds, folder)
        print(row, file=sys.stderr, flush=True)
        rows.append({**row, "all answered": kept_up(row)})
        missed = 0 if kept_up(row) else missed + 1
        rate = round(1.2 * rate / 10) * 10.0
    return rows


def added(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return how much later answers come than from the bare server, run by run."""
    pairs = zip(rows[::2], rows[1::2], strict=True)
    return [
        {
            "run": number + 1,
            "added p50 ms": ours["p50 ms"] - bare["p50 ms"],
            "added p99 ms": ours["p99 ms"] - bare["p99 ms"],
        }
        for number, (bare, ours) in enumerate(pairs)
    ]


def verdict(climbs: list[dict[str, Any]], more: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the figures that the bars are held against."""
    best = {
        name: max(
            (r["rate"] for r in climbs if r["server"] == name and r["all answered"]), default=0
        )
        for name in dict.fromkeys(row["server"] for row in climbs)
    }
    rows: list[dict[str, Any]] = [
        {"figure": f"highest rate with all answered, {name} (1/s)", "value": rate, "bar": bar}
        for (name, rate), bar in zip(best.items(), ("", f">= {BAR_RATE:.0f}"), strict=True)
    ]
    for key in ("added p50 ms", "added p99 ms"):
        middle = statistics.median(row[key] for row in more)
        bar = f"<= {BAR_ADDED_MS:.0f}" if "p99" in key else ""
        rows.append({"figure": f"{key} at 300/s, median of runs", "value": middle, "bar": bar})
    return rows


def main() -> int:
    """Run everything and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each run")
    parser.add_argument("--repeats", type=int, default=3, help="of the runs at 300/s")
    parser.add_argument("--first", type=float, default=600.0, help="rate that the climb begins at")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, sides(Path(name), arguments.nodes) as both:
        folder = Path(name)
        steady = [
            load(side, f"steady-{side.name[:4]}-{run}", 300.0, arguments.seconds, folder)
            for run in range(arguments.repeats)
            for side in both
        ]
        climbs = [
            row for side in both for row in ladder(side, arguments.first, arguments.seconds, folder)
        ]
    more = added(steady)
    tables = {
        "verdict": verdict(climbs, more),
        "at 300 requests/s": steady,
        "added by the coordinator": more,
        "raising the rate": climbs,
    }
    print(record.write(arguments.out, "coordinator", tables))
    return 0


if __name__ == "__main__":
    sys.exit(main())
