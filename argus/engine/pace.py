"""How far the host runs ahead of the device, and how fast steps really are."""

from __future__ import annotations

import time
from collections import deque

import torch

RUN_AHEAD = 2
"""Steps queued on a device at most: enough to keep it busy, few enough that a row can still join,
leave or be cancelled at the next one."""
MEMORY = 0.1
"""Weight of the newest step in the running mean of how slow steps are."""
SLOWEST, FASTEST = 20.0, 0.2
"""Bounds of one step's ratio, so that a single pause does not spoil the mean."""


class Pace:
    """For the device thread. `slowness` may be read from any."""

    def __init__(self) -> None:
        self.slowness = 1.0
        """Seconds that steps take, relative to those measured at warm-up; a running mean."""
        self._under_way: deque[tuple[torch.cuda.Event, float]] = deque()
        self._last_end_s: float | None = None
        self._began_s = 0.0

    def begin(self) -> None:
        """A step is about to be given to the device; waits while enough are queued there."""
        while len(self._under_way) >= RUN_AHEAD:
            self._wait_for_oldest()
        self._began_s = time.perf_counter()

    def end(self, device: torch.device, predicted_s: float) -> None:
        """A step was given to the device; warm-up says that it takes `predicted_s`."""
        if device.type != "cuda":
            self._note(time.perf_counter() - self._began_s, predicted_s)
            return
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(device))
        self._under_way.append((event, predicted_s))

    def idle(self) -> None:
        """Nothing is to be done; what is queued is waited for."""
        while self._under_way:
            self._wait_for_oldest()
        self._last_end_s = None

    def _wait_for_oldest(self) -> None:
        event, predicted_s = self._under_way.popleft()
        event.synchronize()
        now_s = time.perf_counter()
        if self._last_end_s is not None:
            # One behind the other without a gap: the time between two ends is that of a step.
            self._note(now_s - self._last_end_s, predicted_s)
        self._last_end_s = now_s

    def _note(self, taken_s: float, predicted_s: float) -> None:
        if predicted_s > 0:
            ratio = min(SLOWEST, max(FASTEST, taken_s / predicted_s))
            self.slowness += MEMORY * (ratio - self.slowness)
