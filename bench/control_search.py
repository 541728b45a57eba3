"""The settings each baseline is judged with: the best of one grid, on traces not judged on."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from control_cells import Contender, Job, Row, Scenario, mean_and_half

from argus.control.policies import PolicyOptions

PERIODS_S = (2.0, 5.0, 20.0)
HEADROOMS = (0.85, 1.0, 1.1, 1.25, 1.5, 2.0)
SHAPES = ("markov", "step")
LOADS = (0.6, 0.8, 1.0, 1.2)
SEEDS = (11,)
PLANNED = ("argus-paper", "pac", "proteus", "sommelier", "diffserve")
UNPLANNED = ("clipper-ha", "clipper-ht", "nirvana")
"""They have neither a period nor a headroom."""
BASELINES = ("argus-paper", "pac", "proteus", "sommelier", "diffserve", "nirvana", *UNPLANNED[:2])
NAME = "control_search"


def grid() -> list[Contender]:
    """Return every setting that is tried."""
    found = []
    for policy in BASELINES:
        planned = policy in PLANNED
        pairs = itertools.product(PERIODS_S, HEADROOMS) if planned else [(None, None)]
        for (period_s, headroom), shed in itertools.product(pairs, (True, False)):
            options = PolicyOptions(period_s, headroom, shed)
            found.append(Contender(_label(policy, options), policy, options))
    return found


def jobs(requests: int) -> list[Job]:
    """Return the runs of the search."""
    scenarios = itertools.product(SHAPES, LOADS, SEEDS)
    return [
        Job(Scenario(shape, load, seed, requests), tuple(grid()), bounds=False)
        for shape, load, seed in scenarios
    ]


def tables(rows: Sequence[Row]) -> dict[str, list[dict[str, Any]]]:
    """Return what was tried and what was chosen."""
    tried = []
    for contender in grid():
        own = [row for row in rows if row.contender.label == contender.label]
        options = contender.options
        tried.append(
            {
                "policy": contender.policy,
                "period s": options.period_s or "none",
                "headroom": options.headroom or "none",
                "sheds": "yes" if options.shed else "no",
                "quality of all %": 100 * mean_and_half(row.quality for row in own)[0],
                "violations %": 100 * mean_and_half(row.violations for row in own)[0],
            }
        )
    chosen = []
    for policy in BASELINES:
        for sheds in ("yes", "no"):
            own_rows = [x for x in tried if x["policy"] == policy and x["sheds"] == sheds]
            chosen.append(max(own_rows, key=lambda row: row["quality of all %"]))
    return {"chosen": chosen, "tried": tried}


def chosen(out: Path, sheds: bool | None = None) -> list[Contender]:
    """Return each baseline as chosen in the file that a search wrote.

    Args:
        out: folder of results.
        sheds: which of the two; None: whichever did better.
    """
    data = json.loads((out / f"{NAME}.json").read_text(encoding="utf-8"))
    found = []
    for policy in BASELINES:
        own = [x for x in data["tables"]["chosen"] if x["policy"] == policy]
        if sheds is not None:
            own = [x for x in own if x["sheds"] == ("yes" if sheds else "no")]
        best = max(own, key=lambda row: row["quality of all %"])
        options = PolicyOptions(
            _number(best["period s"]), _number(best["headroom"]), best["sheds"] == "yes"
        )
        label = policy if sheds is not False else f"{policy}, no shedding"
        found.append(Contender(label, policy, options))
    return found


def _number(cell: Any) -> float | None:
    return None if cell == "none" else float(cell)


def _label(policy: str, options: PolicyOptions) -> str:
    return f"{policy} {options.period_s} {options.headroom} {options.shed}"
