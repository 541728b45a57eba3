"""What it is worth to reckon with rows that may join another, in virtual time.

The same traces on two nodes that step four rows together, with the costs of the bundled family;
with what is learned of how far nodes fill up (`argus.control.filling`), and with margins alone.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import record
from arrivals import poisson
from sim_real import LEVELS, LOOKAHEAD, NODES, SLOTS, alone_s, full_s, profile_of
from sim_spread import bundled_costs

from argus.control.policies.argus import ArgusPolicy
from argus.control.policies.argus_options import ArgusOptions
from argus.sim.engine import simulate
from argus.sim.outcome import Outcome
from argus.sim.setting import SimSetting
from argus.sim.types import PromptTable, Trace

DEADLINES = (0.8, 1.0, 1.5, 2.5)
"""Relative to a reference row in full batches."""
LOADS = (0.3, 0.6, 0.8, 1.0, 1.5)
"""Relative to what the nodes make of the reference level in full batches."""
SECONDS = 60.0
"""Of a trace, in units of what a reference row alone takes."""
TRACES = 4


def run(deadline: float, load: float, seed: int, filling: bool) -> Outcome:
    """Simulate one trace."""
    costs = bundled_costs()
    rate = load * NODES * SLOTS / full_s(costs)
    arrivals = np.array(poisson(rate, SECONDS * alone_s(costs), seed))
    quality = np.array([[quality for _, quality in LEVELS.values()]])
    return simulate(
        Trace(arrivals, np.array(["p"] * len(arrivals))),
        PromptTable(np.array(["p"]), np.array([0.0]), quality, quality),
        profile_of(costs, deadline * full_s(costs)),
        ArgusPolicy(ArgusOptions(filling=filling)),
        SimSetting(nodes=NODES, lookahead=LOOKAHEAD, drop_late=True),
    )


def main() -> None:
    """Simulate everything and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    settings = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for deadline, load in itertools.product(DEADLINES, LOADS):
        row: dict[str, Any] = {"deadline": deadline, "load": load}
        for name, filling in (("margins alone", False), ("filling", True)):
            found = [run(deadline, load, seed, filling) for seed in range(TRACES)]
            requests = sum(len(one) for one in found)
            quality = sum(one.quality_of_all * len(one) for one in found) / requests
            violations = sum(one.violations for one in found) / requests
            row["requests"] = requests
            row[f"{name}: quality of all %"] = f"{100 * quality:.2f}"
            row[f"{name}: violations %"] = f"{100 * violations:.2f}"
        rows.append(row)
    costs = bundled_costs()
    title = (
        f"A reference row takes {alone_s(costs):.2f} s alone, {full_s(costs):.2f} in full batches"
    )
    print(record.write(settings.out, "filling", {title: rows}))


if __name__ == "__main__":
    main()
