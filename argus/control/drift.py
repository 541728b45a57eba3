"""Whether pictures still are as good as predicted: a test that never ends, and a margin.

The test needs nothing of how residuals (observed − predicted relative quality) are distributed.
With bets λ and a tolerance δ, each test keeps the Shiryaev-Roberts sums

    S ← (S + 1) · (1 + λ · (loss − δ)),    loss = ∓ residual, cut to −1 … 1

averaged over λ: an e-detector (Shin, Ramdas and Rinaldo, 2022). While the mean loss, given all
that came before, is at most δ, the expectation of S grows by at most 1 a picture.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from argus.control.coverage import COVERAGE, CoverageMonitor
from argus.errors import InvalidArgumentError

PICTURES_A_FALSE_ALARM = 10_000
TOLERANCE = 0.02
"""Mean residual, either way, that is no drift: profiles are finite, and a level that is chosen
where its prediction is highest is a little less good than that."""
BETS = (1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32)
"""Large ones find large drifts soon, small ones small drifts in the end. None is above 1/2, so
that no loss makes a sum negative."""
MOST_LOSS = 1.0
_TESTS_A_PICTURE = 4
"""Each picture counts in two scopes, its level and all levels, each tested both ways."""
QUIET = 200
"""Pictures of a scope after which an alarm that did not come again is withdrawn."""
RECENT = 100
"""Pictures that the mean residual of a scope is of."""
ALL = ""
"""Scope of all levels together."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A picture that was compared with the reference level's.

    Attributes:
        level: it was made at.
        observed: relative quality.
        predicted: relative quality, as of its decision.
        lower: bound that was stated, without a margin; None or 0 where none was, which is no bound
            that could be missed, and is not counted.
    """

    level: str
    observed: float
    predicted: float
    lower: float | None = None


@dataclass(frozen=True, slots=True)
class Alarm:
    """Pictures are not as good as predicted, or better.

    Attributes:
        level: whose; `ALL`: over all levels.
        worse: whether they are worse than predicted.
        residual: mean of observed − predicted, of the recent pictures of the scope.
        pictures: how many those are.
    """

    level: str
    worse: bool
    residual: float
    pictures: int


class Detector:
    """The one-sided test.

    Args:
        limit: what the averaged sum must reach.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self.sums = [0.0] * len(BETS)

    def add(self, loss: float) -> bool:
        """Take in a loss; return whether the limit is reached, in which case it begins anew."""
        excess = max(-MOST_LOSS, min(MOST_LOSS, loss)) - TOLERANCE
        grown = [
            (total + 1) * (1 + bet * excess) for total, bet in zip(self.sums, BETS, strict=True)
        ]
        reached = sum(grown) / len(grown) >= self._limit
        self.sums = [0.0] * len(BETS) if reached else grown
        return reached


class _Scope:
    """Both tests of one level, or of all."""

    def __init__(self, level: str, limit: float) -> None:
        self.level = level
        self.recent: deque[float] = deque(maxlen=RECENT)
        self.tests = {True: Detector(limit), False: Detector(limit)}
        self.quiet_left = {True: 0, False: 0}
        """By direction, pictures until the alarm is withdrawn; 0: there is none."""

    @property
    def mean(self) -> float:
        return sum(self.recent) / len(self.recent) if self.recent else 0.0

    def add(self, residual: float) -> list[Alarm]:
        """Take in a residual and return the alarms that were not standing."""
        self.recent.append(residual)
        new = []
        for worse, test in self.tests.items():
            if test.add(-residual if worse else residual):
                if not self.quiet_left[worse]:
                    new.append(self._alarm(worse))
                self.quiet_left[worse] = QUIET
            elif self.quiet_left[worse]:
                self.quiet_left[worse] -= 1
        return new

    def alarms(self) -> list[Alarm]:
        return [self._alarm(worse) for worse, left in self.quiet_left.items() if left]

    def _alarm(self, worse: bool) -> Alarm:
        return Alarm(self.level, worse, self.mean, len(self.recent))

    def state(self) -> dict[str, Any]:
        return {
            "recent": list(self.recent),
            "worse": [self.quiet_left[True], *self.tests[True].sums],
            "better": [self.quiet_left[False], *self.tests[False].sums],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.recent.extend(_finite(state["recent"]))
        for worse, name in ((True, "worse"), (False, "better")):
            left, *sums = _finite(state[name])
            if len(sums) != len(BETS):
                raise ValueError(f"{name}: {len(BETS)} sums are needed, not {len(sums)}")
            self.quiet_left[worse] = int(left)
            self.tests[worse].sums = sums


class Drift:
    """Watches residuals, level by level and over all, and the coverage of the lower bounds.

    While predictions are right within the tolerance, alarms come at most once in
    `pictures_a_false_alarm` pictures on average, over all levels and both directions, whatever the
    distribution: every picture adds at most 4 to the expectation of all sums together, and an
    alarm takes 4 · `pictures_a_false_alarm` out of them.

    Args:
        pictures_a_false_alarm: at least 1.
        coverage: that lower bounds are said to have.
    """

    def __init__(
        self,
        pictures_a_false_alarm: int = PICTURES_A_FALSE_ALARM,
        coverage: float = COVERAGE,
    ) -> None:
        if pictures_a_false_alarm < 1:
            raise InvalidArgumentError(
                "pictures_a_false_alarm", f"must be at least 1, not {pictures_a_false_alarm}"
            )
        self._limit = float(_TESTS_A_PICTURE * pictures_a_false_alarm)
        self._all = _Scope(ALL, self._limit)
        self._levels: dict[str, _Scope] = {}
        self.coverage = CoverageMonitor(coverage)
        self.pictures = 0
        """Compared so far."""

    @property
    def margin(self) -> float:
        """By how much lower bounds are to be lowered."""
        return self.coverage.margin

    @property
    def residual(self) -> float:
        """Mean residual of the recent pictures of all levels; 0 before any."""
        return self._all.mean

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """Those that stand, over all levels first."""
        return tuple(alarm for scope in self._scopes for alarm in scope.alarms())

    @property
    def residuals(self) -> dict[str, float]:
        """Mean residual of the recent pictures by level."""
        return {name: scope.mean for name, scope in sorted(self._levels.items())}

    def add(self, outcome: Outcome) -> tuple[Alarm, ...]:
        """Take in a picture and return the alarms that it raised.

        Raises:
            InvalidArgumentError: a number is not finite.
        """
        numbers = (outcome.observed, outcome.predicted, outcome.lower or 0.0)
        if not all(map(math.isfinite, numbers)):
            raise InvalidArgumentError("outcome", f"is not of finite numbers: {outcome}")
        self.pictures += 1
        if outcome.level not in self._levels:
            self._levels[outcome.level] = _Scope(outcome.level, self._limit)
        residual = outcome.observed - outcome.predicted
        raised = self._all.add(residual) + self._levels[outcome.level].add(residual)
        if outcome.lower:
            self.coverage.add(outcome.lower, outcome.observed)
        return tuple(raised)

    @property
    def _scopes(self) -> list[_Scope]:
        return [self._all, *(self._levels[name] for name in sorted(self._levels))]

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs, as JSON values."""
        return {
            "pictures": self.pictures,
            "scopes": {scope.level: scope.state() for scope in self._scopes},
            "coverage": self.coverage.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where another watch of the same settings ended; only before the first picture.

        Raises:
            InvalidArgumentError: it is no such state.
        """
        fresh = Drift(coverage=self.coverage.coverage)
        fresh._limit = self._limit
        try:
            fresh._take(state)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidArgumentError("state", f"is none of a drift watch: {error!r}") from error
        self._all, self._levels = fresh._all, fresh._levels
        self.coverage, self.pictures = fresh.coverage, fresh.pictures

    def _take(self, state: Mapping[str, Any]) -> None:
        self.pictures = int(state["pictures"])
        for level, content in state["scopes"].items():
            scope = _Scope(level, self._limit)
            scope.restore(content)
            if level == ALL:
                self._all = scope
            else:
                self._levels[level] = scope
        self.coverage.restore(state["coverage"])


def _finite(values: Any) -> list[float]:
    numbers = [float(value) for value in values]
    if not all(map(math.isfinite, numbers)):
        raise ValueError("a number is not finite")
    return numbers
