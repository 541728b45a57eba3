"""What the engine is doing, for heartbeats and metrics."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from argus.clock import Clock

PEAK_WINDOW_S = 10.0


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A moment of an engine.

    Attributes:
        rows: rows that hold a slot or are being decoded.
        waiting: rows accepted that wait for a slot.
        lanes: lanes of the last forward, 0 when idle; padding not counted.
        peak_lanes: largest number of lanes over the last ten seconds.
        slots_free: slots that a row could take now.
        device_idle_s: seconds since the device thread last showed life.
        steps_total: forwards since the start.
        images_total: images finished since the start.
        alive: whether the device thread runs.
        resident: variants whose weights are on the device.
        slowness: seconds that steps take lately, relative to what was measured at warm-up.
    """

    rows: int
    waiting: int
    lanes: int
    peak_lanes: int
    slots_free: int
    device_idle_s: float
    steps_total: int
    images_total: int
    alive: bool
    resident: tuple[str, ...]
    slowness: float


class StatsRecorder:
    """Counters for the device thread; `image` is called under the engine's lock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._alive_s = clock.now()
        self._lanes = 0
        self._steps = 0
        self._images = 0
        self._recent: deque[tuple[float, int]] = deque(maxlen=4096)

    @property
    def lanes(self) -> int:
        """Lanes of the last forward, 0 when idle."""
        return self._lanes

    def alive(self) -> None:
        """The device thread shows life."""
        self._alive_s = self._clock.now()

    def idle(self) -> None:
        """The device thread has nothing to do."""
        self._lanes = 0

    def step(self, lanes: int) -> None:
        """A forward of that many lanes is done."""
        self._lanes = lanes
        self._steps += 1
        self._recent.append((self._clock.now(), lanes))

    def image(self) -> None:
        """An image is finished."""
        self._images += 1

    def snapshot(
        self,
        *,
        rows: int,
        waiting: int,
        slots_free: int,
        alive: bool,
        resident: tuple[str, ...],
        slowness: float,
    ) -> EngineStats:
        """Return the counters together with what the engine counted itself."""
        now = self._clock.now()
        recent = [lanes for at, lanes in list(self._recent) if now - at <= PEAK_WINDOW_S]
        return EngineStats(
            rows=rows,
            waiting=waiting,
            lanes=self._lanes,
            peak_lanes=max(recent, default=0),
            slots_free=slots_free,
            device_idle_s=now - self._alive_s,
            steps_total=self._steps,
            images_total=self._images,
            alive=alive,
            resident=resident,
            slowness=slowness,
        )
