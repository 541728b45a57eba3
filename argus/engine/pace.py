"""How far the host runs ahead of the device, and how fast steps really are."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch

RUN_AHEAD = 2
"""Steps queued on a device at most: enough to keep it busy, few enough that a row can still join,
leave or be cancelled at the next one."""
MEMORY = 0.1
"""Most weight of the newest step in the running mean of how slow steps are."""
MEMORY_S = 1.0
"""Predicted seconds of steps after which the mean has forgotten two thirds: a mean over a few steps
of a small model would tell of the last moment, and the queue it is multiplied with is seconds."""
SLOWEST, FASTEST = 20.0, 0.2
"""Bounds of one step's ratio, so that a single pause does not spoil the mean."""

IDLE_S, FORGET_S = 1.0, 5.0
"""After so long without a step slowness goes to 1, with the second as its time constant.
Whoever finds a node too slow for all that waits gives it nothing, and would never hear otherwise:
one bad moment of the machine must not shut a node out for good."""


@dataclass(frozen=True, slots=True)
class StepDone:
    """A step that was given to the device: warm-up says that it takes `predicted_s`."""

    variant: str
    lanes: int
    predicted_s: float


class Pace:
    """For the device thread. `slowness` may be read from any.

    Args:
        on_time: told the variant, the lanes and the seconds of each step that was timed.
        now: the time in seconds.
    """

    def __init__(
        self,
        on_time: Callable[[str, int, float], None] | None = None,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._on_time = on_time
        self._now = now
        self._mean = 1.0
        self._idle_since_s = now()
        """Infinity while a step is made."""
        self._under_way: deque[tuple[torch.cuda.Event, StepDone]] = deque()
        self._last_end_s: float | None = None
        self._began_s = 0.0

    @property
    def slowness(self) -> float:
        """Seconds that steps take, relative to those measured at warm-up: a running mean, of which
        less and less is left while there are no steps."""
        idle_s = max(0.0, self._now() - self._idle_since_s - IDLE_S)
        return 1.0 + (self._mean - 1.0) * math.exp(-idle_s / FORGET_S)

    def begin(self) -> None:
        """A step is about to be given to the device; waits while enough are queued there."""
        self._mean, self._idle_since_s = self.slowness, math.inf
        while len(self._under_way) >= RUN_AHEAD:
            self._wait_for_oldest()
        self._began_s = self._now()

    def end(self, device: torch.device, step: StepDone) -> None:
        """A step was given to the device."""
        self._idle_since_s = self._now()
        if device.type != "cuda":
            self._note(self._now() - self._began_s, step)
            return
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(device))
        self._under_way.append((event, step))

    def idle(self) -> None:
        """Nothing is to be done; what is queued is waited for."""
        while self._under_way:
            self._wait_for_oldest()
            self._idle_since_s = self._now()
        # A step that failed has no end.
        self._idle_since_s = min(self._idle_since_s, self._now())
        self._last_end_s = None

    def _wait_for_oldest(self) -> None:
        event, step = self._under_way.popleft()
        event.synchronize()
        now_s = self._now()
        if self._last_end_s is not None:
            # One behind the other without a gap: the time between two ends is that of a step.
            self._note(now_s - self._last_end_s, step)
        self._last_end_s = now_s

    def _note(self, taken_s: float, step: StepDone) -> None:
        if self._on_time is not None:
            self._on_time(step.variant, step.lanes, taken_s)
        if step.predicted_s > 0:
            ratio = min(SLOWEST, max(FASTEST, taken_s / step.predicted_s))
            weight = min(MEMORY, 1.0 - math.exp(-step.predicted_s / MEMORY_S))
            self._mean += weight * (ratio - self._mean)
