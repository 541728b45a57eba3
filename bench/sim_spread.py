"""How far simulated traces of `make test-sim-real` differ from each other, whatever the profile.

The same arrivals run with steady steps, with steps that vary, and on nodes that are slower than the
control plane believes. All of it is in virtual time: nothing depends on the machine.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import control_measured as measured
import numpy as np
import record
from arrivals import poisson
from sim_real import LEVELS, LOOKAHEAD, LOOSE, NODES, SLOTS, alone_s, full_s, profile_of

from argus.control.policies import make
from argus.control.profile import CostProfile
from argus.sim.engine import simulate
from argus.sim.outcome import Outcome
from argus.sim.setting import SimSetting
from argus.sim.types import PromptTable, Trace
from argus.types import VariantCosts

LOADS = (0.8, 1.5)
SECONDS = 40.0
"""Of a trace, in units of what a reference row alone takes."""
JITTERS = (0.02, 0.05, 0.1)
SLOWER = (0.95, 1.05, 1.1)
TRACES, DRAWS = 6, 6


def bundled_costs() -> VariantCosts:
    """Return what rows cost by the bundled family's profile."""
    path = measured.FOLDER / "costs.json"
    found = CostProfile.from_json(path.read_text(encoding="utf-8"), str(path))
    variant = next(v for v in found.variants if v.name == measured.VARIANT)
    size = variant.sizes[0]
    return VariantCosts(size.steps, variant.text_encode_s, size.decode_s)


def run(load: float, seed: int, jitter: float = 0.0, draw: int = 0, slower: float = 1.0) -> Outcome:
    """Simulate one trace."""
    costs = bundled_costs()
    profile = profile_of(costs, LOOSE * alone_s(costs))
    rate = load * NODES * SLOTS / full_s(costs)
    arrivals = poisson(rate, SECONDS * alone_s(costs), seed)
    trace = Trace(np.array(arrivals), np.array(["p"] * len(arrivals)))
    quality = np.array([[quality for _, quality in LEVELS.values()]])
    prompts = PromptTable(np.array(["p"]), np.array([0.0]), quality, quality)
    setting = SimSetting(
        nodes=NODES,
        lookahead=LOOKAHEAD,
        drop_late=True,
        jitter=jitter,
        seconds_scales=(slower,) * NODES,
    )
    return simulate(trace, prompts, profile, make("argus"), setting, draw)


def main() -> None:
    """Simulate everything and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    settings = parser.parse_args()
    vary: list[dict[str, Any]] = []
    slow: list[dict[str, Any]] = []
    for load in LOADS:
        steady = [run(load, seed) for seed in range(TRACES)]
        requests = fmean(len(outcome) for outcome in steady)
        for jitter in JITTERS:
            pairs = [
                (base, run(load, seed, jitter, draw))
                for seed, base in enumerate(steady)
                for draw in range(DRAWS)
            ]
            gaps = [100 * (other.quality_of_all - base.quality_of_all) for base, other in pairs]
            ratios = [100 * (other.goodput / base.goodput - 1) for base, other in pairs]
            vary.append(
                {
                    "load": load,
                    "requests a trace": round(requests),
                    "variation of rows %": 100 * jitter,
                    "quality, mean points": round(fmean(gaps), 2),
                    "standard deviation": round(stdev(gaps), 2),
                    "largest": round(max(map(abs, gaps)), 2),
                    "goodput, mean %": round(fmean(ratios), 2),
                    "its standard deviation": round(stdev(ratios), 2),
                }
            )
        for factor in SLOWER:
            outcomes = [run(load, seed, slower=factor) for seed in range(TRACES)]
            gaps = [
                100 * (other.quality_of_all - base.quality_of_all)
                for base, other in zip(steady, outcomes, strict=True)
            ]
            slow.append(
                {
                    "load": load,
                    "seconds over the profile's": factor,
                    "quality, mean points": round(fmean(gaps), 2),
                    "standard deviation": round(stdev(gaps), 2),
                }
            )
    tables = {
        f"Rows that vary, {TRACES} traces {DRAWS} times each, against steady ones": vary,
        f"Nodes that are slower than their profile, {TRACES} traces, against those that are not": (
            slow
        ),
    }
    print(record.write(settings.out, "sim_spread", tables))


if __name__ == "__main__":
    main()
