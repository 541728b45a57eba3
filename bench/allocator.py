"""`make bench-allocator`: how long the allocator takes, from 8 to 4,096 nodes, and how good it is.

Each row solves the same cluster over and over with demand that changes by up to 10 %, from the same
residency: the planner's case, where only numbers change. The first solution builds the programs and
is reported apart. `worst %` is the largest distance to the relaxed bound, which nothing exceeds.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path
from typing import Any

import allocator_problems
import cvxpy
import numpy as np
import record

from argus.control.allocator import Allocator

NODES = (8, 16, 64, 256, 1024, 4096)
KINDS = (1, 4, 8)
LOADS = (0.6, 1.0, 1.5, 3.0)
"""Demand over what the cluster makes at its best level."""


def measure(nodes: int, kinds: int, load: float, solves: int) -> dict[str, Any]:
    """Return one row: milliseconds and distance to the bound of `solves` solutions."""
    rng = np.random.default_rng(nodes * 1000 + kinds)
    allocator = Allocator()
    taken_ms, distance, how = [], [], Counter[str]()
    for _ in range(solves + 1):
        case = allocator_problems.problem(nodes, kinds, load, rng)
        start_s = time.perf_counter()
        found = allocator.solve(case)
        taken_ms.append(1e3 * (time.perf_counter() - start_s))
        distance.append(100.0 * (1.0 - found.objective / found.bound))
        how[found.solved.value] += 1
    first_ms, *again_ms = taken_ms
    return {
        "nodes": nodes,
        "kinds": kinds,
        "load": load,
        "first ms": first_ms,
        "median ms": float(np.median(again_ms)),
        "p99 ms": float(np.quantile(again_ms, 0.99)),
        "worst %": max(distance),
        "solved": ", ".join(f"{name} {count}" for name, count in sorted(how.items())),
    }


def main() -> None:
    """Measure everything and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    parser.add_argument("--solves", type=int, default=40)
    options = parser.parse_args()
    # The very first solution of a process imports the solver; that is nobody's row.
    measure(8, 1, 1.0, 1)
    rows = [
        measure(nodes, kinds, load, options.solves)
        for kinds in KINDS
        for nodes in NODES
        for load in LOADS
    ]
    facts = record.circumstances()
    facts["versions"] |= {"cvxpy": cvxpy.__version__, "highspy": record.version("highspy")}
    tables = {f"Four variants, 24 levels, six classes; {options.solves} re-solves a row": rows}
    print(record.write(options.out, "allocator", tables, facts))


if __name__ == "__main__":
    main()
