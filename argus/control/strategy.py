"""When starting from cached states pays, level by level, and when only smaller models do.

A level that continues a state (AC) is worth offering while fetching the state takes less time than
the steps it saves, while it is not beaten by a level that needs no state, such as a smaller model
(SM), and while looking for neighbours costs less than what is found saves. The optimiser decides
how much of each is made; this only takes away what cannot help. On the profile published for SDXL
(4.2 s for 50 steps) the first condition breaks even at 0.084·K seconds.

What is switched off comes back only with a margin and after a while, so that numbers near the edge
do not make levels flicker. Since nothing is measured of what is not done, a small share of the
requests goes on trying.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from argus.control.dominance import Standing, dominates, stall_s
from argus.control.reuse import pays
from argus.errors import InvalidArgumentError


class Mode(enum.Enum):
    """What approximates."""

    REUSE = "ac"
    """Cached states, and smaller models where they are better."""
    SMALLER = "sm"
    """Smaller models and fewer steps only."""


@dataclass(frozen=True, slots=True)
class StrategyOptions:
    """How sure to be before something changes.

    Attributes:
        margin: by how much a level that is off must pay to come back, as a share.
        off_after_s: how long it must not have paid to go.
        on_after_s: how long it must have paid to come back.
        probe_share: of the requests that try what is off.
    """

    margin: float = 0.2
    off_after_s: float = 5.0
    on_after_s: float = 30.0
    probe_share: float = 0.02

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InvalidArgumentError: names the field.
        """
        for name, value in (
            ("margin", self.margin),
            ("off_after_s", self.off_after_s),
            ("on_after_s", self.on_after_s),
        ):
            if not value >= 0.0:
                raise InvalidArgumentError(name, f"must not be below 0: {value}")
        if not 0.0 <= self.probe_share <= 1.0:
            raise InvalidArgumentError("probe_share", f"must be in 0 … 1: {self.probe_share}")


@dataclass(frozen=True, slots=True)
class Reuse:
    """What was measured of cached states lately.

    Attributes:
        retrieval_s: a high quantile of the seconds that fetches took; None: none was made.
        step_s: seconds of one step of one row on the nodes.
        wait_s: seconds that rows wait for a slot, in which states are fetched; grows with load.
        lookup_s: seconds that looking for a neighbour adds to each request.
        reach: by level that needs a state, the share of look-ups for which it is the latest that is
            harmless; None: nothing was looked up.
    """

    retrieval_s: float | None
    step_s: float
    wait_s: float = 0.0
    lookup_s: float = 0.0
    reach: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Advice:
    """What is worth offering now.

    Attributes:
        levels: names of them.
        look_up: whether neighbours are worth looking for.
        probe_share: of the requests to which all is offered, so that it is measured.
    """

    levels: frozenset[str]
    look_up: bool
    probe_share: float
    mode: Mode

    def offers(self, level: str, draw: float) -> bool:
        """Whether to offer a level to a request.

        Args:
            level: its name.
            draw: of the request, uniform in 0 … 1.
        """
        return level in self.levels or draw < self.probe_share


@dataclass(slots=True)
class _Switch:
    """On or off, and since when the opposite has been better."""

    on: bool = True
    since_s: float | None = None

    def update(self, better_on: bool, now_s: float, options: StrategyOptions) -> bool:
        if better_on == self.on:
            self.since_s = None
            return self.on
        if self.since_s is None:
            self.since_s = now_s
        if now_s - self.since_s >= (options.off_after_s if self.on else options.on_after_s):
            self.on, self.since_s = better_on, None
        return self.on


class Strategy:
    """Remembers what is on. Times never go back."""

    def __init__(self, options: StrategyOptions | None = None) -> None:
        self._options = options or StrategyOptions()
        self._levels: dict[str, _Switch] = {}
        self._look_up = _Switch()

    def advise(
        self, standings: Sequence[Standing], steps: int, reuse: Reuse, now_s: float
    ) -> Advice:
        """Return what is worth offering.

        Args:
            standings: every level with its expected quality and its cost, in which no device stands
                still for a state.
            steps: that the reference level runs.
            reuse: what was measured of states.
            now_s: of some clock.
        """
        stalled_s = stall_s(reuse.retrieval_s or 0.0, reuse.wait_s)
        offered = set()
        saved_s = 0.0
        for mine in standings:
            level = mine.level
            if not level.skip_fraction:
                offered.add(level.name)
                continue
            switch = self._levels.setdefault(level.name, _Switch())
            effort_s = stalled_s * self._care(switch)
            skip = level.skip(steps)
            good = pays(skip, reuse.step_s, effort_s) and not self._beaten(
                mine, standings, effort_s
            )
            if switch.update(good, now_s, self._options):
                offered.add(level.name)
                share = (reuse.reach or {}).get(level.name, 0.0)
                saved_s += share * max(0.0, skip * reuse.step_s - stalled_s)
        found = reuse.reach is None or saved_s > reuse.lookup_s * self._care(self._look_up)
        needed = self._look_up.update(found, now_s, self._options)
        return self._advice(standings, offered, needed)

    def _advice(self, standings: Sequence[Standing], offered: set[str], look_up: bool) -> Advice:
        with_state = {x.level.name for x in standings if x.level.skip_fraction}
        if not look_up:
            offered -= with_state
        reused = bool(offered & with_state)
        probe = self._options.probe_share if with_state - offered else 0.0
        mode = Mode.REUSE if reused else Mode.SMALLER
        return Advice(frozenset(offered), look_up and reused, probe, mode)

    def _care(self, switch: _Switch) -> float:
        return 1.0 if switch.on else 1.0 + self._options.margin

    @staticmethod
    def _beaten(mine: Standing, standings: Sequence[Standing], stalled_s: float) -> bool:
        """Whether a level without a state is as good and costs no more, stalls included."""
        dear = replace(mine, costs_s=tuple(cost + stalled_s for cost in mine.costs_s))
        return any(dominates(other, dear) for other in standings if not other.level.skip_fraction)
