"""The simulator against reality: two CPU nodes with the bundled model. `make test-sim-real`."""

from __future__ import annotations

from pathlib import Path

import pytest
from sim_real import Compared, compare

GOODPUT, QUALITY = 0.10, 0.01
"""How far the two may be apart."""
STEADY = 1.15
"""Where a row takes that much longer or shorter after a trace than before it, other work on the
machine may be what sets the two apart: another try is made."""
TRIES = 3


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.parametrize("load", [0.8, 1.5])
async def test_the_same_trace_ends_alike_on_real_nodes_and_in_the_simulator(
    tmp_path: Path, load: float
) -> None:
    said = []
    for seed in range(TRIES):
        found = await compare(tmp_path, load, seconds=40.0, policy="argus", seed=seed)
        said.append(describe(found))
        print(said[-1])
        if abs(found.goodput_ratio - 1) <= GOODPUT and abs(found.quality_gap) <= QUALITY:
            return
        if 1 / STEADY < found.drift < STEADY:
            break
    pytest.fail("\n".join(said))


def describe(found: Compared) -> str:
    """Return a line for people."""
    real, simulated = found.real, found.simulated
    scales = ", ".join(f"{s:.2f}" for s in found.profile.batching.seconds_scale)
    return (
        f"{len(real)} requests, {found.profile.levels[0].seconds:.2f} s alone, batches {scales}, "
        f"drift {found.drift:.2f}: goodput {real.goodput:.3f}/s real, {simulated.goodput:.3f} "
        f"simulated; quality of all {real.quality_of_all:.4f} and {simulated.quality_of_all:.4f}; "
        f"violations {real.violations} and {simulated.violations}"
    )
