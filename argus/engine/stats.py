"""What the engine is doing, for heartbeats and metrics."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from argus.clock import Clock
from argus.histogram import SECONDS, Histogram, Spread

PEAK_WINDOW_S = 10.0


@dataclass(frozen=True, slots=True)
class StepTimes:
    """What steps of a variant took: `seconds` of each, and the `lanes` of all of them summed."""

    seconds: Spread
    lanes: int


NOTHING = Histogram(SECONDS).spread()


@dataclass(frozen=True, slots=True)
class DecodeStats:
    """A moment of the decode queue.

    Attributes:
        waiting: finished images and previews that wait for the decoder.
        encoding: pictures that wait for an encoder or are in one.
        decode_s: seconds of decoding calls.
        encode_s: seconds of encoding pictures.
    """

    waiting: int = 0
    encoding: int = 0
    decode_s: Spread = NOTHING
    encode_s: Spread = NOTHING


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
        step_times: of each variant that has stepped.
        decode: the decode queue.
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
    step_times: Mapping[str, StepTimes] = field(default_factory=dict)
    decode: DecodeStats = field(default_factory=DecodeStats)


class StatsRecorder:
    """Counters for the device thread; `image` is called under the engine's lock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._alive_s = clock.now()
        self._lanes = 0
        self._steps = 0
        self._images = 0
        self._recent: deque[tuple[float, int]] = deque(maxlen=4096)
        self._seconds: dict[str, Histogram] = {}
        self._variant_lanes: dict[str, int] = {}

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

    def step_time(self, variant: str, lanes: int, seconds: float) -> None:
        """A step of a variant took so long."""
        if variant not in self._seconds:
            self._variant_lanes[variant] = 0
            self._seconds[variant] = Histogram(SECONDS)
        self._seconds[variant].observe(seconds)
        self._variant_lanes[variant] += lanes

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
        decode: DecodeStats,
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
            step_times={
                name: StepTimes(seconds.spread(), self._variant_lanes[name])
                for name, seconds in tuple(self._seconds.items())
            },
            decode=decode,
        )
