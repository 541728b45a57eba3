"""From what was kept of every request to the tables and the plot of `make bench-serving`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib as mpl
import numpy as np
from control_cells import mean_and_half
from serving_cells import Cell, CellRun, Served

mpl.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402  (the back end is chosen before)

Row = dict[str, Any]
References = Mapping[tuple[str, int], float]
"""Score of the reference level's picture by prompt and repeat."""


@dataclass(frozen=True, slots=True)
class Judging:
    """What requests are held to. Times in seconds.

    Attributes:
        references: see there.
        slo_s: from when a request was due.
        lead_s: requests due before are load, and not counted.
        seconds: length of a cell's trace.
    """

    references: References
    slo_s: float
    lead_s: float
    seconds: float

    def counted(self, run: CellRun) -> list[Served]:
        """Return the requests that count."""
        return [served for served in run.served if served.due_s >= self.lead_s]

    def on_time(self, served: Served) -> bool:
        """Whether the picture was there in time."""
        return bool(served.level) and served.end_s - served.due_s <= self.slo_s

    def relative(self, served: Served) -> float:
        """Return a picture's score over the reference's; NaN where that scored 0 or is missing."""
        reference = self.references.get((served.prompt_id, served.repeat), math.nan)
        return served.score / reference if reference > 0 else math.nan


@dataclass(frozen=True, slots=True)
class Figures:
    """What a table says of a cell under a policy in one repeat. Shares from 0 to 1.

    Attributes:
        requests: that count.
        goodput: pictures on time, a second of the time in which they were due.
        refused: turned away since there is too much to do.
        dropped: ended as impossible to make in time, at once or later.
        late: with a picture after the deadline, or another error.
        quality_all: mean relative quality, requests without a picture in time counting 0; those
            whose reference scored 0 are left out.
        quality_on_time: of pictures in time alone.
        levels: pictures in time by level.
    """

    requests: int
    goodput: float
    refused: float
    dropped: float
    late: float
    quality_all: float
    quality_on_time: float
    levels: Mapping[str, int]

    @property
    def violations(self) -> float:
        """Share of requests without a picture in time."""
        return self.refused + self.dropped + self.late


def figures(run: CellRun, judging: Judging) -> Figures:
    """Return a run's figures; NaN where nothing was due."""
    counted = judging.counted(run)
    n = len(counted) or math.nan
    in_time = [served for served in counted if judging.on_time(served)]
    errors = Counter(served.error for served in counted if not judging.on_time(served))
    refused, dropped = errors.pop("OverloadedError", 0), errors.pop("DeadlineError", 0)
    defined = [s for s in counted if judging.references.get((s.prompt_id, s.repeat), 0.0) > 0]
    qualities = [judging.relative(s) if judging.on_time(s) else 0.0 for s in defined]
    answered = [judging.relative(s) for s in defined if judging.on_time(s)]
    return Figures(
        requests=len(counted),
        goodput=len(in_time) / (judging.seconds - judging.lead_s),
        refused=refused / n,
        dropped=dropped / n,
        late=sum(errors.values()) / n,
        quality_all=fmean(qualities) if qualities else math.nan,
        quality_on_time=fmean(answered) if answered else math.nan,
        levels=Counter(served.level for served in in_time),
    )


@dataclass(frozen=True, slots=True)
class Results:
    """All runs: by policy the turns in order of their repeats, each with all cells.

    Attributes:
        judging: see there.
        cells: in the order of the tables.
        turns: by policy, by repeat, the runs by cell's name.
    """

    judging: Judging
    cells: Sequence[Cell]
    turns: Mapping[str, Mapping[int, Mapping[str, CellRun]]]

    def figures(self, policy: str, cell: Cell) -> dict[int, Figures]:
        """Return a cell's figures by repeat."""
        runs = self.turns[policy]
        return {r: figures(runs[r][cell.name], self.judging) for r in sorted(runs)}

    def tables(self) -> dict[str, list[Row]]:
        """Return all tables by heading."""
        found = {
            "Policies side by side": self._side_by_side(),
            "Levels, % of the pictures in time": self._levels(),
            "What was predicted and what was found": self._predictions(),
            "Who took the processor, % of one core": self._processor(),
        }
        pairs = self._pairs()
        return found | ({"Argus less each other, repeat by repeat": pairs} if pairs else {})

    def _side_by_side(self) -> list[Row]:
        rows = []
        for cell in self.cells:
            for policy in self.turns:
                own = list(self.figures(policy, cell).values())
                rows.append(
                    {
                        "cell": cell.name,
                        "policy": policy,
                        "requests": sum(f.requests for f in own),
                        "goodput/s": _spread([f.goodput for f in own], 2),
                        "violations %": _percent([f.violations for f in own]),
                        "of them refused": _mean_percent([f.refused for f in own]),
                        "dropped": _mean_percent([f.dropped for f in own]),
                        "late": _mean_percent([f.late for f in own]),
                        "quality of all %": _percent([f.quality_all for f in own]),
                        "quality in time %": _percent([f.quality_on_time for f in own]),
                    }
                )
        return rows

    def _levels(self) -> list[Row]:
        names = sorted({name for policy in self.turns for name in self._used(policy)})
        rows = []
        for cell in self.cells:
            for policy in self.turns:
                used: Counter[str] = Counter()
                for found in self.figures(policy, cell).values():
                    used.update(found.levels)
                total = sum(used.values()) or math.nan
                shares = {name: f"{100 * used[name] / total:.0f}" for name in names}
                rows.append({"cell": cell.name, "policy": policy, **shares})
        return rows

    def _used(self, policy: str) -> set[str]:
        return {served.level for served in self._in_time(policy)}

    def _in_time(self, policy: str) -> list[Served]:
        judging = self.judging
        return [
            served
            for runs in self.turns[policy].values()
            for run in runs.values()
            for served in judging.counted(run)
            if judging.on_time(served)
        ]

    def _predictions(self) -> list[Row]:
        """Return by level what answers stated and what the verifier found, over all policies."""
        pictures = [served for policy in self.turns for served in self._in_time(policy)]
        rows = []
        for level in sorted({served.level for served in pictures}):
            own = [s for s in pictures if s.level == level and self.judging.relative(s) >= 0]
            if own:
                rows.append(
                    {
                        "level": level,
                        "pictures": len(own),
                        "predicted %": f"{100 * fmean(s.predicted for s in own):.1f}",
                        "found %": f"{100 * fmean(self.judging.relative(s) for s in own):.1f}",
                    }
                )
        return rows

    def _processor(self) -> list[Row]:
        rows = []
        for policy, runs in self.turns.items():
            own = [run for turn in runs.values() for run in turn.values()]
            lags = [1000 * (s.sent_s - s.due_s) for run in own for s in run.served]
            shares = {who: fmean(run.shares[who] for run in own) for who in own[0].shares}
            rows.append(
                {
                    "policy": policy,
                    **{who: f"{100 * share:.0f}" for who, share in shares.items()},
                    "sent late by, p50 ms": f"{np.quantile(lags, 0.5):.1f}",
                    "p99 ms": f"{np.quantile(lags, 0.99):.1f}",
                }
            )
        return rows

    def _pairs(self) -> list[Row]:
        rows = []
        others = [policy for policy in self.turns if policy != "argus"]
        for cell in self.cells if "argus" in self.turns else ():
            ours = self.figures("argus", cell)
            for policy in others:
                theirs = self.figures(policy, cell)
                both = sorted(set(ours) & set(theirs))

                def less(of: Callable[[Figures], float]) -> list[float]:
                    return [of(ours[r]) - of(theirs[r]) for r in both]  # noqa: B023 (used at once)

                rows.append(
                    {
                        "cell": cell.name,
                        "other": policy,
                        "goodput/s": _spread(less(lambda f: f.goodput), 2),
                        "violations, points": _percent(less(lambda f: f.violations)),
                        "quality of all, points": _percent(less(lambda f: f.quality_all)),
                    }
                )
        return rows


def _spread(values: Sequence[float], digits: int) -> str:
    """Return a mean with half the width of its 95 % interval over repeats, where there are two."""
    mean, half = mean_and_half(values)
    return f"{mean:.{digits}f}" + (f" ± {half:.{digits}f}" if math.isfinite(half) else "")


def _percent(shares: Sequence[float]) -> str:
    return _spread([100 * share for share in shares], 1)


def _mean_percent(shares: Sequence[float]) -> str:
    return f"{100 * fmean(shares):.1f}"


def plot(results: Results, path: Path) -> None:
    """Draw violations and quality of all over the cells, a line for each policy."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5))
    places = np.arange(len(results.cells))
    for number, policy in enumerate(results.turns):
        own = [list(results.figures(policy, cell).values()) for cell in results.cells]
        shift = 0.08 * (number - (len(results.turns) - 1) / 2)
        for axis, field in zip(axes, ("violations", "quality_all"), strict=True):
            spreads = [mean_and_half(100 * getattr(f, field) for f in cell) for cell in own]
            means, halves = zip(*spreads, strict=True)
            axis.errorbar(
                places + shift,
                means,
                np.nan_to_num(halves),
                label=policy,
                color="black" if policy == "argus" else f"C{number}",
                marker="o",
                linestyle="none",
                capsize=3,
            )
    for axis, title in zip(axes, ("violations, %", "quality of all requests, %"), strict=True):
        axis.set_title(title)
        axis.set_xticks(places, [cell.name for cell in results.cells])
        axis.grid(axis="y", alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
