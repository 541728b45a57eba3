"""The rate at which requests come now: half a quick average, half a forecast.

An exponential average over seconds sees a burst at once, and on calm traffic is off by a
quarter: it holds a dozen arrivals. The forecast of `argus.control.demand` has a memory that
fits the traffic, but takes a few seconds to see a burst. Their mean was better than either on
every shape of traffic that was tried (docs/control.md).
"""

from __future__ import annotations

import math

from argus.control.demand import DemandForecast, ForecastOptions

SILENCE_S = 10.0
"""Supposed before the first arrival, so that it does not count as a crowd."""
_AHEAD_S = 10.0
"""Over which the forecast is asked for."""
_YOUNG_S = 20.0
"""Time before there is a forecast."""
_OPTIONS = ForecastOptions(bin_s=2.0, alarm=8.0)
"""A jump is believed sooner than a plan would: an alarm that is false costs little here. Bins are
longer: the quick average sees what comes within one, and ending one takes tens of microseconds."""


class Average:
    """Arrivals a second, as an exponentially weighted average.

    Args:
        memory_s: time in which the weight of an arrival falls to 1/e.
    """

    def __init__(self, memory_s: float) -> None:
        self._memory_s = memory_s
        self._weight = 0.0
        self._since_s = 0.0
        self.first_s: float | None = None
        """When the first one came; None before."""

    def arrive(self, now_s: float) -> None:
        """Count one."""
        if self.first_s is None:
            self.first_s = self._since_s = now_s
        self._fade(now_s)
        self._weight += 1.0

    def at(self, now_s: float) -> float:
        """Return the rate; before the first arrival a few seconds of silence are supposed."""
        if self.first_s is None:
            return 0.0
        self._fade(now_s)
        unseen = math.exp(-(now_s - self.first_s) / self._memory_s)
        return self._weight / (self._memory_s * (1.0 - unseen) + SILENCE_S * unseen)

    def state(self, now_s: float) -> tuple[float, float]:
        """Return the weight of what came, and the seconds since the first."""
        if self.first_s is None:
            return 0.0, 0.0
        self._fade(now_s)
        return self._weight, now_s - self.first_s

    def restore(self, weight: float, seen_s: float, at_s: float) -> None:
        """Go on with what `state` returned at a time on this clock, with silence since."""
        self._weight, self._since_s, self.first_s = weight, at_s, at_s - seen_s

    def _fade(self, now_s: float) -> None:
        self._weight *= math.exp((self._since_s - now_s) / self._memory_s)
        self._since_s = now_s


class ArrivalRate:
    """See the module's text. Times never go back.

    Args:
        memory_s: of the quick average.
    """

    def __init__(self, memory_s: float) -> None:
        self._average = Average(memory_s)
        self._forecast: DemandForecast | None = None
        self._began_s = 0.0
        """When the forecast did."""
        self._earlier: float | None = None
        """What another process forecast last; it holds until there is a forecast."""
        self._told_at = -1
        self._told = 0.0

    def arrive(self, now_s: float) -> None:
        """Count one."""
        self._average.arrive(now_s)
        if self._forecast is None:
            self._forecast = DemandForecast(1, now_s, _OPTIONS)
            self._began_s = now_s
        self._forecast.observe(now_s)

    def at(self, now_s: float) -> float:
        """Return arrivals a second."""
        quick = self._average.at(now_s)
        if self._forecast is None or now_s - self._began_s < _YOUNG_S:
            return quick if self._earlier is None else 0.5 * (quick + self._earlier)
        # It changes when a bin is over, and by little in between.
        at = int((now_s - self._began_s) / _OPTIONS.bin_s)
        if at != self._told_at:
            self._told_at = at
            self._told = self._forecast.rate_per_s(now_s, _AHEAD_S)
        return 0.5 * (quick + self._told)

    def state(self, now_s: float) -> tuple[float, float, float]:
        """Return what another process can go on with: the average's state, and what is forecast."""
        quick = self._average.at(now_s)
        return (*self._average.state(now_s), 2.0 * self.at(now_s) - quick)

    def restore(self, weight: float, seen_s: float, forecast: float, at_s: float) -> None:
        """Go on with what `state` returned at a time on this clock; the forecast begins anew."""
        self._average.restore(weight, seen_s, at_s)
        self._earlier = forecast
