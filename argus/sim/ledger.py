"""The books of a run: every arrival is ended exactly once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from argus.errors import InternalError
from argus.sim.outcome import Outcome, Status
from argus.sim.types import Floats, Trace

_OPEN = -1


class Ledger:
    """Columns of out.csv, filled in as requests end.

    Args:
        trace: the arrivals.
        quality: by row of the prompt table and level.
        prompt_rows: each arrival's row of that table.
        slo_s: from arrival to deadline.
    """

    def __init__(
        self, trace: Trace, quality: Floats, prompt_rows: Sequence[int], slo_s: float
    ) -> None:
        n = len(trace)
        self.left = n
        """Arrivals that have not ended."""
        self._trace = trace
        self._quality = quality
        self._prompt_rows = np.array(prompt_rows, dtype=np.int64)
        # Python's sums, to the last bit: what is on time must not depend on who adds.
        self._deadline_s = [at_s + slo_s for at_s in trace.arrival_s.tolist()]
        self._start_s = [math.nan] * n
        self._finish_s = [math.nan] * n
        self._level = [-1] * n
        self._node = [-1] * n
        self._status = [_OPEN] * n

    def end(self, index: int, status: Status) -> None:
        """End an arrival without a picture."""
        if self._status[index] != _OPEN:
            raise InternalError(f"arrival {index} ended twice")
        self._status[index] = int(status)
        self.left -= 1

    def finish(self, index: int, level: int, node: int, start_s: float, finish_s: float) -> None:
        """End an arrival with a picture."""
        on_time = finish_s <= self._deadline_s[index]
        self.end(index, Status.ON_TIME if on_time else Status.LATE)
        self._start_s[index] = start_s
        self._finish_s[index] = finish_s
        self._level[index] = level
        self._node[index] = node

    def outcome(self, decisions: int, policy_s: float, wall_s: float) -> Outcome:
        """Return the columns."""
        level = np.array(self._level, dtype=np.int64)
        quality = np.where(level < 0, 0.0, self._quality[self._prompt_rows, level])
        return Outcome(
            prompt_id=self._trace.prompt_id,
            arrival_s=self._trace.arrival_s,
            start_s=np.array(self._start_s),
            finish_s=np.array(self._finish_s),
            level=level,
            node=np.array(self._node, dtype=np.int64),
            deadline_s=np.array(self._deadline_s),
            quality=quality,
            status=np.array(self._status, dtype=np.int64),
            decisions=decisions,
            policy_s=policy_s,
            wall_s=wall_s,
        )
