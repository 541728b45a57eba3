"""The simulator against reality: two CPU nodes with the bundled model. `make test-sim-real`."""

from __future__ import annotations

from pathlib import Path

import pytest
from sim_real import Compared, compare

STEADY = 1.15
"""A machine on which a row takes that much longer or shorter after the trace is not a measure."""
TRIES = 3


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.parametrize("load", [0.8, 1.5])
async def test_the_same_trace_ends_alike_on_real_nodes_and_in_the_simulator(
    tmp_path: Path, load: float
) -> None:
    tried: list[Compared] = []
    for seed in range(TRIES):
        found = await compare(tmp_path, load, seconds=60.0, policy="argus", seed=seed)
        tried.append(found)
        print(describe(found))
        if 1 / STEADY < found.drift < STEADY:
            break
    else:
        pytest.fail(
            "other work on this machine changes what a row takes by "
            + ", ".join(f"{found.drift:.2f}x" for found in tried)
            + " from before a trace to after it: nothing can be compared"
        )
    assert found.goodput_ratio == pytest.approx(1.0, abs=0.10)
    assert found.quality_gap == pytest.approx(0.0, abs=0.01)


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
