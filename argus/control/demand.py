"""How many requests are about to come, and of which classes.

Arrivals are counted by bins. How many bins tell about the future depends on how fast the rate
moves, so means and lines of several memories are kept and weighed by how well each predicted the
bins that followed (`averaging.py`): calm traffic ends up with a long memory, moving traffic with a
short one.

A jump is noticed sooner than that. At the end of each bin a generalised likelihood ratio of Poisson
counts asks whether two rates, one before and one after some moment, explain the counts so much
better than one that chance cannot be the reason; then all that came before it is forgotten.

Real traffic is burstier than Poisson: counts are discounted by their dispersion, measured from bin
to bin, lest every clump be taken for a change.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from argus.control.averaging import Averages
from argus.errors import InvalidArgumentError

_NORMAL_90 = 1.6449
_FEWEST_FOR_DISPERSION = 16
_PRIOR = 1.0
"""Requests of each class that are taken for granted, so that none is ruled out."""


@dataclass(frozen=True, slots=True)
class ForecastOptions:
    """What the forecast remembers and what alarms it.

    Attributes:
        bin_s: counts are kept by bins of this length; changes are looked for after each.
        longest_s: how far back a jump is looked for.
        alarm: log of the likelihood ratio from which on the rate is held to have changed.
        most_dispersion: variance over mean of counts that is believed at most.
        mix_requests: memory of the mix of classes, in requests.
    """

    bin_s: float = 1.0
    longest_s: float = 600.0
    alarm: float = 15.0
    most_dispersion: float = 4.0
    mix_requests: float = 500.0

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InvalidArgumentError: names the field.
        """
        above_0 = {
            "bin_s": self.bin_s,
            "alarm": self.alarm,
            "mix_requests": self.mix_requests,
        }
        for name, value in above_0.items():
            if not value > 0:
                raise InvalidArgumentError(name, f"must be above 0, not {value}")
        if self.longest_s < 8 * self.bin_s:
            raise InvalidArgumentError("longest_s", "must be at least eight bins")
        if self.most_dispersion < 1:
            raise InvalidArgumentError("most_dispersion", "must be at least 1")


@dataclass(frozen=True, slots=True)
class Forecast:
    """Requests a second on average over a horizon.

    Attributes:
        rate_per_s: expected.
        low_per_s, high_per_s: the mean rate lies between them nine times in ten.
        shares: by class; they add up to 1.
        memory_s: on how long a time it is based.
    """

    rate_per_s: float
    low_per_s: float
    high_per_s: float
    shares: tuple[float, ...]
    memory_s: float

    @property
    def rates_per_s(self) -> tuple[float, ...]:
        """Expected requests a second by class."""
        return tuple(self.rate_per_s * share for share in self.shares)


class DemandForecast:
    """Learns from every arrival, whether it was accepted or not. Times never go back.

    Args:
        classes: how many there are.
        now_s: when counting starts.
    """

    def __init__(
        self, classes: int = 1, now_s: float = 0.0, options: ForecastOptions | None = None
    ) -> None:
        if classes < 1:
            raise InvalidArgumentError("classes", f"must be at least 1, not {classes}")
        self._options = options or ForecastOptions()
        self._most = round(self._options.longest_s / self._options.bin_s)
        """Bins that are remembered."""
        self._sums: deque[int] = deque([0], maxlen=self._most + 1)
        """Arrivals up to the end of each bin, from before the first one on."""
        self._splits = tuple(_splits(self._most))
        self._run = 0
        """Closed bins since the last change."""
        self._open_at_s = now_s
        self._open = 0
        self.changed_at_s = now_s
        """When the rate last changed, as far as is known."""
        self._squares = self._total = 0.0
        self._averages = Averages()
        self._mix = _Mix(classes, self._options.mix_requests) if classes > 1 else None

    def observe(self, now_s: float, kind: int = 0) -> None:
        """Count one arrival of a class."""
        self._advance(now_s)
        self._open += 1
        if self._mix is not None:
            self._mix.add(kind)

    def forecast(self, now_s: float, horizon_s: float) -> Forecast:
        """Return what is expected on average from now until `horizon_s` later."""
        self._advance(now_s)
        bin_s = self._options.bin_s
        shares = (1.0,) if self._mix is None else self._mix.shares()
        elapsed_s = now_s - self._open_at_s
        # Right after the start there is only the open bin.
        if not self._run:
            rate = self._open / elapsed_s if elapsed_s > 0.0 else 0.0
            return Forecast(rate, 0.0, math.inf, shares, elapsed_s)
        told = self._averages.predict(self._ahead(now_s, horizon_s), self._dispersion())
        low, high = _interval(told.rate / bin_s, told.variance / bin_s**2)
        return Forecast(told.rate / bin_s, low, high, shares, told.bins * bin_s)

    def rate_per_s(self, now_s: float, horizon_s: float) -> float:
        """Return the rate of `forecast` alone, in less than half the time."""
        self._advance(now_s)
        if not self._run:
            return self.forecast(now_s, horizon_s).rate_per_s
        return self._averages.rate(self._ahead(now_s, horizon_s)) / self._options.bin_s

    def _ahead(self, now_s: float, horizon_s: float) -> float:
        """Return the bins from the middle of the last closed one to that of the horizon."""
        return (now_s - self._open_at_s + horizon_s / 2) / self._options.bin_s + 0.5

    def _advance(self, now_s: float) -> None:
        """Close the bins that are over."""
        over = int((now_s - self._open_at_s) / self._options.bin_s)
        # After silence for longer than the memory nothing but silence is remembered.
        skipped = max(0, over - self._most - 1)
        self._open_at_s += skipped * self._options.bin_s
        for _ in range(over - skipped):
            self._close()

    def _close(self) -> None:
        count, sums = self._open, self._sums
        self._open = 0
        self._open_at_s += self._options.bin_s
        if len(sums) > 1:
            keep = 1.0 - 1.0 / self._most
            self._squares = keep * self._squares + (count - (sums[-1] - sums[-2])) ** 2
            self._total = keep * self._total + count
        sums.append(sums[-1] + count)
        self._run = min(self._run + 1, self._most)
        spread = self._dispersion()
        self._averages.add(count, spread)
        jumped = _last_jump(sums, self._run, self._options.alarm * spread, self._splits)
        if jumped:
            self._run = jumped
            self.changed_at_s = self._open_at_s - jumped * self._options.bin_s
            late = itertools.islice(sums, len(sums) - jumped - 1, None)
            self._averages.restart(b - a for a, b in itertools.pairwise(late))

    def _dispersion(self) -> float:
        """Return variance over mean of the counts, at least 1.

        Differences of neighbouring bins do not see slow changes (von Neumann, 1941).
        """
        if len(self._sums) <= _FEWEST_FOR_DISPERSION or not self._total:
            return 1.0
        spread = self._squares / (2 * self._total)
        return min(max(1.0, spread), self._options.most_dispersion)


class _Mix:
    """Shares of the classes, over two memories: the short one where they differ beyond chance."""

    def __init__(self, classes: int, requests: float) -> None:
        self._memories = (requests, requests / 8)
        self._counts = [[0.0] * classes for _ in self._memories]

    def add(self, kind: int) -> None:
        for memory, counts in zip(self._memories, self._counts, strict=True):
            for i in range(len(counts)):
                counts[i] *= 1.0 - 1.0 / memory
            counts[kind] += 1.0

    def shares(self) -> tuple[float, ...]:
        long, short = self._counts
        counts = short if self._differ(long, short) else long
        total = sum(counts) + _PRIOR * len(counts)
        return tuple((count + _PRIOR) / total for count in counts)

    def _differ(self, long: Sequence[float], short: Sequence[float]) -> bool:
        """Whether the short memory's shares are others than the long one's (chi-square)."""
        total, some = sum(long) + len(long) * _PRIOR, sum(short)
        square = 0.0
        for a, b in zip(long, short, strict=True):
            expected = some * (a + _PRIOR) / total
            square += (b - expected) ** 2 / expected if expected else 0.0
        freedom = len(long) - 1
        # Weighted counts have about half the variance of plain ones; mean + 4 deviations.
        return 2 * square > freedom + 4 * math.sqrt(2 * freedom) + 4


def _splits(run: int) -> Iterator[int]:
    """Yield bins after a possible change: each of the last few, then ever fewer."""
    split = 1
    while split < run:
        yield split
        split += max(1, split // 4)


def _last_jump(sums: Sequence[int], run: int, alarm: float, splits: Sequence[int]) -> int:
    """Return the bins since the moment at which the rate must have jumped; 0: it did not.

    Args:
        sums: of counts, up to the end of each bin.
        run: bins that are looked at.
        alarm: what the log of the ratio must exceed.
        splits: bins since the moments that are tried, rising.
    """
    last = len(sums) - 1
    end = sums[last]
    total = end - sums[last - run]
    best, at = alarm, 0
    for split in splits:
        if split >= run or not total:
            break
        late = end - sums[last - split]
        # Most splits are far from an alarm, which Pearson's chi-square of the two counts tells in
        # less time: for a count c and its expectation e, c·log(c/e) ≤ c·(c/e − 1).
        expected = total * split / run
        if (late - expected) ** 2 * total > best * expected * (total - expected):
            ratio = _log_ratio(late, split, total - late, run - split)
            if ratio > best:
                best, at = ratio, split
    return at


def _log_ratio(late: int, late_bins: int, early: int, early_bins: int) -> float:
    """Return the log of how much likelier two rates make the counts than one."""
    rate = (late + early) / (late_bins + early_bins)
    ratio = 0.0
    for count, bins in ((late, late_bins), (early, early_bins)):
        if count:
            ratio += count * math.log(count / (bins * rate))
    return ratio


def _interval(rate: float, variance: float) -> tuple[float, float]:
    """Return the middle nine tenths of a gamma distribution (Wilson and Hilferty, 1931)."""
    if rate <= 0.0:
        return 0.0, 3.0 * math.sqrt(variance)
    shape = rate**2 / variance
    ends = (
        1.0 - 1.0 / (9.0 * shape) + sign * _NORMAL_90 / (3.0 * math.sqrt(shape))
        for sign in (-1.0, 1.0)
    )
    low, high = (rate * max(0.0, end) ** 3 for end in ends)
    return low, high
