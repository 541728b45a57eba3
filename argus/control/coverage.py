"""Whether lower bounds hold as often as they are said to, and the margin that makes them hold."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from argus.errors import InvalidArgumentError

COVERAGE = 0.9
"""Share of pictures that are promised to be no worse than their bound."""
STEP = 0.02
WINDOW = 200
WIDEST = 2.0
"""A margin so wide that no bound is left: no level's quality is above it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a picture said about its bound.

    Attributes:
        missed: whether it was worse than the bound with the margin of that moment.
        margin: by which bounds are to be lowered from now on.
    """

    missed: bool
    margin: float


class CoverageMonitor:
    """Adaptive conformal inference on top of bounds that somebody else states.

    After Gibbs and Candès (NeurIPS 2021): each picture that misses its bound lowers the error
    level `alpha` by (1 − α) · step, each that holds it raises it by α · step, and the margin is
    the (1 − alpha) quantile of how far recent pictures lay below the bounds stated. It never
    narrows a bound, for which `alpha` is kept at α or below. So of any T pictures in a row,
    however they were chosen, at most αT + (α + step) / step miss their bound (alpha starts a
    stretch at α at most, and where it is not above 0 nothing misses). That speaks of pictures
    whose quality is not below 0, and of the margin when they are judged.

    Args:
        coverage: 1 − α, in (0, 1).
        step: how fast it adapts; smaller is slower and calmer.
        window: pictures that the quantile is of.
    """

    def __init__(
        self, coverage: float = COVERAGE, step: float = STEP, window: int = WINDOW
    ) -> None:
        if not 0 < coverage < 1:
            raise InvalidArgumentError("coverage", f"must be between 0 and 1, not {coverage:g}")
        if not 0 < step < 1:
            raise InvalidArgumentError("step", f"must be between 0 and 1, not {step:g}")
        if window < 1:
            raise InvalidArgumentError("window", f"must be at least 1, not {window}")
        self.coverage = coverage
        self._step = step
        self._alpha = 1 - coverage
        self._short: deque[float] = deque(maxlen=window)
        self._missed: deque[bool] = deque(maxlen=window)
        self.judged = 0
        """Pictures in all."""

    @property
    def margin(self) -> float:
        """By how much bounds are to be lowered, 0 … `WIDEST`."""
        if self._alpha <= 0:
            return WIDEST
        if not self._short:
            return 0.0
        # 0.9 · 200 may be above 180 in floats.
        place = math.ceil(round((1 - self._alpha) * len(self._short), 9))
        return min(WIDEST, max(0.0, sorted(self._short)[max(place, 1) - 1]))

    @property
    def held(self) -> float:
        """Share of the recent pictures that held their bound with its margin; 1 before any."""
        return 1 - sum(self._missed) / len(self._missed) if self._missed else 1.0

    def add(self, stated: float, observed: float) -> Verdict:
        """Take in a picture.

        Args:
            stated: its lower bound, without a margin.
            observed: its relative quality.
        """
        missed = observed < max(0.0, stated - self.margin)
        most = 1 - self.coverage
        self._alpha = min(most, self._alpha + self._step * (most - missed))
        self._short.append(stated - observed)
        self._missed.append(missed)
        self.judged += 1
        return Verdict(missed, self.margin)

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs, as JSON values."""
        return {
            "alpha": self._alpha,
            "short": list(self._short),
            "missed": list(self._missed),
            "judged": self.judged,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where another monitor of the same settings ended.

        Raises:
            KeyError, TypeError, ValueError: it is no such state.
        """
        alpha = float(state["alpha"])
        short = [float(value) for value in state["short"]]
        missed = [bool(value) for value in state["missed"]]
        judged = int(state["judged"])
        if not all(map(math.isfinite, (alpha, *short))):
            raise ValueError("a number is not finite")
        self._alpha = min(1 - self.coverage, alpha)
        self._short.clear()
        self._short.extend(short)
        self._missed.clear()
        self._missed.extend(missed)
        self.judged = judged
