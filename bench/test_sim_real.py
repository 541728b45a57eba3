"""The simulator against reality: two CPU nodes with the bundled model. `make test-sim-real`."""

from __future__ import annotations

from pathlib import Path

import pytest
from sim_real import LEVELS, Compared, Pair, compare

GOODPUT, QUALITY = 0.10, 0.01
"""How far the two may be apart."""
TRACES, MOST = 4, 8
"""The same trace differs from itself where rows vary, whatever the profile: several count together
(bench/results/sim_spread.md), and how they differ tells how sure the difference is."""
STEADY = 1.1
"""Where steps took that much longer in one of three traces, other work on the machine may be what
sets the two sides apart, and the middle one does not count: a profile that is 5 % off costs a
point."""


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.parametrize("load", [0.8, 1.5])
async def test_the_same_traces_end_alike_on_real_nodes_and_in_the_simulator(
    tmp_path: Path, load: float
) -> None:
    found = await compare(tmp_path, load, 60.0, "argus", TRACES, MOST, STEADY)
    for pair in found.pairs:
        print(describe(pair))
    assert len(found.pairs) == TRACES, (
        f"only {len(found.pairs)} of {MOST} traces ran at a steady speed: other work on the machine"
    )
    print(summary(found))
    assert abs(found.goodput_ratio - 1) <= GOODPUT, summary(found)
    assert abs(found.quality_gap) <= QUALITY, summary(found)


def summary(found: Compared) -> str:
    """Return the comparison of all traces, for people."""
    requests = sum(len(pair.real) for pair in found.pairs)
    return (
        f"{requests} requests: simulated goodput {found.goodput_ratio:.3f} of the real one; "
        f"simulated quality {100 * found.quality_gap:+.2f} points from the real one, "
        f"with a standard error of {100 * found.quality_error:.2f}"
    )


def describe(pair: Pair) -> str:
    """Return a line for people on one trace."""
    real, simulated = pair.real, pair.simulated
    scales = ", ".join(f"{s:.2f}" for s in pair.profile.batching.seconds_scale)
    slowness = ", ".join(f"{s:.2f}" for s in pair.slowness)
    used = "; ".join(
        f"{name} {int((real.level == i).sum())} and {int((simulated.level == i).sum())}"
        for i, name in enumerate(LEVELS)
    )
    return (
        f"{len(real)} requests, {pair.profile.levels[0].seconds:.2f} s alone, batches {scales}, "
        f"slowness {slowness}: goodput {real.goodput:.3f}/s real, {simulated.goodput:.3f} "
        f"simulated; quality of all {real.quality_of_all:.4f} and {simulated.quality_of_all:.4f}; "
        f"violations {real.violations} and {simulated.violations}; {used}"
    )
