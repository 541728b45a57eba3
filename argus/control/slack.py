"""How much room the waiting tasks leave: whether each can begin in time at its fastest level.

Tasks are started in the order of the line on whichever node is free, so that all nodes are busy
until a task begins: it begins at the latest when the nodes together have done what is running and
the tasks before it (Graham 1966). With `N` nodes, `R` device seconds running and `m` the least
device seconds of each task, task `k` is on time at its fastest level when

    N · (latest start of k − now) ≥ R + Σ_{i<k} m_i

(the condition of Hall on due times). The difference is what may still be spent before it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from argus.control.line import WaitingLine


def rooms_s(
    line: WaitingLine, now_s: float, nodes: float, running_s: float
) -> NDArray[np.float64]:
    """Return (n,) the device seconds that may be spent more before each task; below 0: too many.

    Args:
        line: who waits.
        now_s: the time.
        nodes: device seconds that the nodes work off in a second.
        running_s: device seconds that started rows still take.
    """
    least = line.least_s
    ahead = np.cumsum(least) - least
    return np.asarray((line.latest_s - now_s) * nodes - (running_s + ahead))
