"""How far the host runs ahead of the device, and how fast steps really are."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch

RUN_AHEAD = 2
"""Steps queued on a device at most: enough to keep it busy, few enough that a row can still join,
leave or be cancelled at the next one."""
MEMORY = 0.1
"""Weight of the newest step in the running mean of how slow steps are."""
SLOWEST, FASTEST = 20.0, 0.2
"""Bounds of one step's ratio, so that a single pause does not spoil the mean."""


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
    """

    def __init__(self, on_time: Callable[[str, int, float], None] | None = None) -> None:
        self._on_time = on_time
        self.slowness = 1.0
        """Seconds that steps take, relative to those measured at warm-up; a running mean."""
        self._under_way: deque[tuple[torch.cuda.Event, StepDone]] = deque()
        self._last_end_s: float | None = None
        self._began_s = 0.0

    def begin(self) -> None:
        """A step is about to be given to the device; waits while enough are queued there."""
        while len(self._under_way) >= RUN_AHEAD:
            self._wait_for_oldest()
        self._began_s = time.perf_counter()

    def end(self, device: torch.device, step: StepDone) -> None:
        """A step was given to the device."""
        if device.type != "cuda":
            self._note(time.perf_counter() - self._began_s, step)
            return
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(device))
        self._under_way.append((event, step))

    def idle(self) -> None:
        """Nothing is to be done; what is queued is waited for."""
        while self._under_way:
            self._wait_for_oldest()
        self._last_end_s = None

    def _wait_for_oldest(self) -> None:
        event, step = self._under_way.popleft()
        event.synchronize()
        now_s = time.perf_counter()
        if self._last_end_s is not None:
            # One behind the other without a gap: the time between two ends is that of a step.
            self._note(now_s - self._last_end_s, step)
        self._last_end_s = now_s

    def _note(self, taken_s: float, step: StepDone) -> None:
        if self._on_time is not None:
            self._on_time(step.variant, step.lanes, taken_s)
        if step.predicted_s > 0:
            ratio = min(SLOWEST, max(FASTEST, taken_s / step.predicted_s))
            self.slowness += MEMORY * (ratio - self.slowness)
