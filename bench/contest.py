"""The same Poisson arrivals served by Argus and by diffusers, one after the other in one run.

Capacity is defined once for all servers: images a second of request-level batching, in its most
productive setting, with every request of the mix waiting from the start. It is the most that the
strongest rival can do, so at 100 % that rival is exactly full; Argus' own rate does not enter.

The deadline of a request is SLO times the time that diffusers takes for a request of its kind
alone on the machine. No server is told of it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from arrivals import Kind, poisson, request, requests
from baselines import Pipeline, PipelineServer
from load import OpenRun, Server, open_loop, saturated

from argus.types import VariantInfo

SLO = 3.0
"""Deadline over the latency of a lone request."""
GRACE = 2.0
"""After the last arrival a run goes on for this many times the longest deadline."""
CALIBRATION_LOAD = 0.8

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured.

    Attributes:
        loads: shares of capacity.
        window_s: seconds of arrivals in a run.
        repeats: runs for each load, each with arrivals of its own.
        saturation: requests in a measurement of capacity.
    """

    loads: tuple[float, ...]
    window_s: float
    repeats: int
    saturation: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was found before the contest.

    Attributes:
        lone_s: seconds of a lone request by kind, diffusers.
        capacity: images a second, see above.
        ours: Argus in its best setting.
        batching: request-level batching in its best setting.
        alone: diffusers one at a time.
        rows: the table of what was tried.
    """

    lone_s: Mapping[Kind, float]
    capacity: float
    ours: Server
    batching: Server
    alone: Server
    rows: list[Row]


class Contest:
    """All servers over one folder, and one mix of requests.

    Args:
        pipeline: of diffusers.
        ours: Argus, by the lanes of its widest forward.
        variant: what the folder allows.
        mix: of requests.
        extent: how much is measured.
        name: of the mix, for request ids.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        ours: Mapping[int, Server],
        variant: VariantInfo,
        mix: Sequence[Kind],
        extent: Extent,
        name: str,
    ) -> None:
        self._pipeline, self._ours, self._variant = pipeline, ours, variant
        self._mix, self._extent, self._name = mix, extent, name
        self._runs = 0

    def run(self) -> dict[str, list[Row]]:
        """Calibrate, serve every load with every server, and return the tables by heading."""
        found = self.calibrate()
        per_load: list[Row] = []
        ratios: list[Row] = []
        for load in self._extent.loads:
            scores = [self._repeat(found, load, seed) for seed in range(self._extent.repeats)]
            for server in (found.ours, found.batching, found.alone):
                mine = [score[server.name] for score in scores if server.name in score]
                per_load.append({"load": load, "server": server.name, **_mean(mine)})
            pairs = [(s[found.ours.name], s[found.batching.name]) for s in scores]
            ratios.append({"load": load, **_ratios(pairs)})
        for server in (found.batching, found.alone):
            server.close()
        drift = [self._drift(kind, before_s) for kind, before_s in found.lone_s.items()]
        return {
            f"{self._name}: lone requests, diffusers, before and after": drift,
            f"{self._name}: settings tried": found.rows,
            f"{self._name}: same arrivals, capacity {found.capacity:.2f} images/s": per_load,
            f"{self._name}: step level against request-level batching": ratios,
        }

    def _drift(self, kind: Kind, before_s: float) -> Row:
        """Return a kind's lone latency before and after: whether the machine kept its speed."""
        after_s = self._lone_s(kind)
        return {
            "sampler": kind.sampler,
            "steps": kind.steps,
            "guided": "yes" if kind.guided else "no",
            "weight": kind.weight,
            "before ms": 1000 * before_s,
            "after ms": 1000 * after_s,
            "deadline ms": 1000 * SLO * before_s,
        }

    def calibrate(self) -> Calibration:
        """Find lone latencies, capacity, and the best setting of either batcher."""
        lone_s = {kind: self._lone_s(kind) for kind in self._mix}
        widths = sorted(self._ours)
        rivals = [self._batching(lanes, 0.0) for lanes in widths]
        shortest = min(lone_s.values())
        rivals += [self._batching(widths[-1], 0.25 * shortest)]
        rates = {server.name: self._saturated(server) for server in rivals}
        capacity = max(rates.values())
        ours = list(self._ours.values())
        rates |= {server.name: self._saturated(server) for server in ours}
        rows: list[Row] = []
        best: list[Server] = []
        for group in (rivals, ours):
            scores = {
                server: self._score(
                    self._serve(server, CALIBRATION_LOAD * capacity, 99, lone_s), lone_s
                )
                for server in group
            }
            winner = min(scores, key=lambda s: (-scores[s]["on time"], scores[s]["mean ms"]))
            best.append(winner)
            rows += [
                {
                    "server": server.name,
                    "saturated images/s": rates[server.name],
                    "mean ms at 80 %": score["mean ms"],
                    "on time at 80 %": score["on time"],
                    "kept": "yes" if server is winner else "",
                }
                for server, score in scores.items()
            ]
        for rival in rivals:
            if rival is not best[0]:
                rival.close()
        alone = PipelineServer(self._pipeline, 1, 0.0, "diffusers, one at a time")
        return Calibration(lone_s, capacity, best[1], best[0], alone, rows)

    def _batching(self, lanes: int, wait_s: float) -> PipelineServer:
        name = f"diffusers, batches of up to {lanes} lanes"
        if wait_s:
            name += f", waits {1000 * wait_s:.0f} ms"
        return PipelineServer(self._pipeline, lanes, wait_s, name)

    def _lone_s(self, kind: Kind) -> float:
        """Return the seconds of one request alone: the median of three after one for warm-up."""
        wanted = request(kind, self._variant, "lone", "a red circle", seed=0)
        taken = []
        for _ in range(4):
            start = time.perf_counter()
            self._pipeline.draw([wanted])
            taken.append(time.perf_counter() - start)
        return statistics.median(taken[1:])

    def _saturated(self, server: Server) -> float:
        self._runs += 1
        name = f"{self._name}-{self._runs}"
        drawn = requests(self._mix, self._extent.saturation, 77, self._variant, name)
        return saturated(server, [wanted for _, wanted in drawn])

    def _repeat(self, found: Calibration, load: float, seed: int) -> dict[str, Row]:
        """Return the scores of one set of arrivals by server; the order turns with the repeat.

        One at a time is hopeless at most loads and is run once for each.
        """
        servers = [found.ours, found.batching] if seed % 2 else [found.batching, found.ours]
        if seed == 0:
            servers.append(found.alone)
        scores = {}
        for server in servers:
            outcome = self._serve(server, load * found.capacity, seed, found.lone_s)
            scores[server.name] = self._score(outcome, found.lone_s)
        return scores

    def _serve(
        self, server: Server, rate: float, seed: int, lone_s: Mapping[Kind, float]
    ) -> tuple[list[Kind], list[float], OpenRun]:
        self._runs += 1
        times = poisson(rate, self._extent.window_s, seed)
        name = f"{self._name}-{self._runs}"
        drawn = requests(self._mix, len(times), seed, self._variant, name)
        grace_s = GRACE * SLO * max(lone_s.values())
        outcome = open_loop(server, [wanted for _, wanted in drawn], times, grace_s)
        return [kind for kind, _ in drawn], times, outcome

    def _score(
        self, served: tuple[list[Kind], list[float], OpenRun], lone_s: Mapping[Kind, float]
    ) -> Row:
        """Return what a table says of one run.

        Goodput divides by the time from the first arrival to the last deadline, which is the same
        for all servers.
        """
        kinds, times, outcome = served
        limits = [SLO * lone_s[kind] for kind in kinds]
        on_time = sum(s <= limit for s, limit in zip(outcome.latencies_s, limits, strict=True))
        span = max(at + limit for at, limit in zip(times, limits, strict=True)) - times[0]
        p50, p99 = (1000 * float(q) for q in np.quantile(outcome.latencies_s, (0.5, 0.99)))
        return {
            "images": len(kinds),
            "images/s": outcome.images_per_s,
            "mean ms": 1000 * statistics.fmean(outcome.latencies_s),
            "p50 ms": p50,
            "p99 ms": p99,
            "goodput/s": on_time / span,
            "on time": on_time / len(kinds),
            "given up": outcome.unfinished,
        }


def _mean(scores: Sequence[Row]) -> Row:
    """Return the mean over repeats, column by column; counts are summed."""
    counts = {"images", "given up"}
    return {
        key: (sum if key in counts else statistics.fmean)(score[key] for score in scores)
        for key in scores[0]
    }


def _ratios(pairs: Sequence[tuple[Row, Row]]) -> Row:
    """Return ours over theirs, pair by pair: the median and the two extremes."""
    row: Row = {}
    for name, key in (("goodput", "goodput/s"), ("mean latency", "mean ms"), ("p99", "p99 ms")):
        # A rival that is never on time would make the ratio infinite; it is then left out.
        values = [ours[key] / theirs[key] for ours, theirs in pairs if theirs[key]]
        row[f"{name} ratio"] = statistics.median(values) if values else "rival at zero"
        row[f"{name} lowest"] = min(values, default="")
        row[f"{name} highest"] = max(values, default="")
    return row
