"""Far more than can be made: nodes go on making what is on time, and little is promised in vain.

Rows of a full batch begin and end together, the hardest case: who misses one waits for the next.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from argus.control.policies.argus import ArgusPolicy
from argus.coordinator.membership import LOOKAHEAD_ROWS
from argus.sim.engine import simulate
from argus.sim.outcome import Status
from argus.sim.setting import SimSetting
from argus.sim.types import Batching, SimLevel, SimProfile, VariantTimes

from .simple import same_prompts, trace_of

NODES, SLOTS, STEPS, ROW_S = 4, 4, 4, 0.5
MOST = NODES * SLOTS / ROW_S
SECONDS = 15.0


def ends(deadline_s: float, load: float, lookahead: int) -> Counter[Status]:
    """Return what becomes of requests of which each takes as long, whatever its company."""
    level = SimLevel("reference", "v", 0, ROW_S, 1.0, STEPS)
    lanes = tuple(2 * (n + 1) for n in range(SLOTS))
    batching, variants = Batching(lanes, (1.0,) * SLOTS), {"v": VariantTimes(0.0, 0.0)}
    profile = SimProfile((level,), deadline_s, batching, variants=variants)
    rng = np.random.default_rng(5)
    count = round(load * MOST * SECONDS)
    trace = trace_of(np.sort(rng.uniform(0.0, SECONDS, count)))
    setting = SimSetting(nodes=NODES, lookahead=lookahead, drop_late=True)
    outcome = simulate(trace, same_prompts(profile), profile, ArgusPolicy(), setting)
    return Counter(Status(status) for status in outcome.status.tolist())


@pytest.mark.parametrize("deadline_s", [1.2, 1.5, 2.5])
@pytest.mark.parametrize("load", [2.0, 10.0])
def test_rows_that_wait_on_nodes_cost_nothing(deadline_s: float, load: float) -> None:
    at_most = ends(deadline_s, load, 0)[Status.ON_TIME]
    assert at_most > 0.95 * MOST * SECONDS
    found = ends(deadline_s, load, LOOKAHEAD_ROWS)
    assert found[Status.ON_TIME] > 0.95 * at_most
    in_vain = found[Status.LATE] + found[Status.DROPPED]
    assert in_vain < 0.06 * (found[Status.ON_TIME] + in_vain)
