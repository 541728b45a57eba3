"""Residency in virtual time: variants moved in by rows, fixed, by the plan, and with room for all.

Eight nodes with room for one of two variants each; demand that turns every few minutes, and one
that turns every quarter of an hour. Settings were chosen on other seeds.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import record

from argus.control.policies import make
from argus.sim.engine import simulate
from argus.sim.outcome import Status
from argus.sim.prompts import draw_prompts
from argus.sim.setting import Placing, SimSetting
from argus.sim.types import Batching, PromptTable, SimLevel, SimProfile, Trace, VariantTimes

NODES = 8
LEVELS = (
    SimLevel("big-50", "big", 0, 4.2, 1.0, 50),
    SimLevel("big-35", "big", 15, 2.94, 0.97, 35),
    SimLevel("small-50", "small", 0, 1.2, 0.86, 50),
)
LOADS_S = {"big": VariantTimes(load_s=20.0), "small": VariantTimes(load_s=8.0)}
PROFILE = SimProfile(LEVELS, 12.6, Batching(), LOADS_S)
HARMLESS = (0.45, 0.25, 0.3)
"""Shares of the prompts by their deepest level without loss."""
TURNS = {
    "minutes": ((1.0, 400), (4.5, 400), (1.0, 400), (5.0, 300), (2.2, 400)),
    "quarters of an hour": ((1.0, 900), (4.5, 900), (2.2, 900)),
}
"""Requests a second, for so many seconds."""
SEEDS = (31, 32, 33)
WAYS = {
    "moved in by rows": (1, Placing.BY_ROWS),
    "fixed, half and half": (1, Placing.FIXED),
    "planned": (1, Placing.PLANNED),
    "room for both": (None, Placing.BY_ROWS),
}


def measure(turns: str, way: str, seed: int) -> dict[str, float]:
    """Return quality over all requests (late = 0), violations and moves of a run."""
    rng = np.random.default_rng(seed)
    drawn = draw_prompts(
        2000, seed=seed + 100, qualities=[x.quality for x in LEVELS], shares=HARMLESS
    )
    prompts = PromptTable.numbered(drawn.similarity, drawn.quality, drawn.predicted)
    times: list[float] = []
    start_s = 0.0
    for rate, span_s in TURNS[turns]:
        count = rng.poisson(rate * span_s)
        times += np.sort(start_s + rng.uniform(0, span_s, count)).tolist()
        start_s += span_s
    trace = Trace(np.array(times), prompts.ids[rng.integers(0, len(prompts), len(times))])
    residents, placing = WAYS[way]
    setting = SimSetting(nodes=NODES, residents=residents, placing=placing)
    outcome = simulate(trace, prompts, PROFILE, make("argus"), setting, seed)
    on_time = outcome.status == Status.ON_TIME
    return {
        "quality": float(np.where(on_time, outcome.quality, 0.0).mean()),
        "violations": float((~on_time).mean()),
        "moves": float(outcome.moves),
    }


def row(turns: str, way: str) -> dict[str, Any]:
    """Return the means over the seeds, with the range of quality."""
    found = [measure(turns, way, seed) for seed in SEEDS]
    quality = [each["quality"] for each in found]
    return {
        "residency": way,
        "quality": f"{np.mean(quality):.4f}",
        "from": f"{min(quality):.4f}",
        "to": f"{max(quality):.4f}",
        "violations_percent": 100 * float(np.mean([each["violations"] for each in found])),
        "moves": float(np.mean([each["moves"] for each in found])),
    }


def main() -> None:
    """Print the tables; with --out, write them there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    tables = {f"demand turns in {turns}": [row(turns, way) for way in WAYS] for turns in TURNS}
    for name, rows in tables.items():
        print(name, record.table(rows), sep="\n\n")
    if asked.out is not None:
        record.write(asked.out, "placing", tables)


if __name__ == "__main__":
    main()
