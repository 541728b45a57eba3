"""The true cluster of a simulated run: its nodes, and what befalls them."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from argus.errors import InvalidArgumentError


@dataclass(frozen=True, slots=True)
class Retrieval:
    """How states are fetched before a row that starts from one takes its slot.

    Attributes:
        seconds: of a fetch, on average.
        spread: standard deviation relative to it.
        miss: share of the fetches that find nothing; the row then runs all its steps.
        outages: intervals (from, to), seconds of the trace, in which no fetch succeeds.
        timeout_s: how long a row waits in vain in an outage.
    """

    seconds: float = 0.0
    spread: float = 0.0
    miss: float = 0.0
    outages: tuple[tuple[float, float], ...] = ()
    timeout_s: float = 1.0

    def __post_init__(self) -> None:
        if min(self.seconds, self.spread, self.timeout_s) < 0 or not 0 <= self.miss <= 1:
            raise InvalidArgumentError("retrieval", "seconds and shares must not be negative")

    def is_out(self, now_s: float) -> bool:
        """Whether no fetch succeeds now."""
        return any(start <= now_s < end for start, end in self.outages)

    @property
    def is_free(self) -> bool:
        """Whether states are always there, at once."""
        return not (self.seconds or self.miss or self.outages)


@dataclass(frozen=True, slots=True)
class NodeLoss:
    """A node that dies with all its rows, and comes back empty.

    Attributes:
        node: its index.
        at_s: when.
        back_s: when it joins again; infinity: never.
        noticed_s: seconds until the control plane knows; rows sent meanwhile are lost, too.
    """

    node: int
    at_s: float
    back_s: float = math.inf
    noticed_s: float = 0.0

    def __post_init__(self) -> None:
        if not self.at_s + self.noticed_s <= self.back_s or self.noticed_s < 0:
            raise InvalidArgumentError(
                "losses", f"a node is back after it was noticed lost: {self}"
            )


class Placing(enum.Enum):
    """How it is settled which variants are where."""

    BY_ROWS = "rows"
    """Nodes are given rows of every variant, and move in what rows wait for."""
    FIXED = "fixed"
    """Nodes are given rows of what they hold; each holds its own from the start, taken in turn."""
    PLANNED = "planned"
    """From there, residency follows the plan."""


@dataclass(frozen=True, slots=True)
class SimSetting:
    """The true cluster. The defaults are the published setting: 8 equal nodes.

    Attributes:
        nodes: how many.
        seconds_scales: of each node, what its work takes relative to the profile; empty: 1 each.
        jitter: standard deviation of a row's service time relative to its mean; log-normal, the
            same for a row whatever the policy does.
        lookahead: rows a node may hold beyond its slots.
        slo_s: None: the profile's.
        drop_late: whether rows end at their deadline, as they do live; else they are made late.
        retrieval: of states.
        losses: of nodes.
        residents: variants a node has room for; a row of another one waits for its load. None:
            for all, from the start.
        placing: how it is settled where variants are.
    """

    nodes: int = 8
    seconds_scales: tuple[float, ...] = ()
    jitter: float = 0.0
    lookahead: int = 0
    slo_s: float | None = None
    drop_late: bool = False
    retrieval: Retrieval = Retrieval()
    losses: tuple[NodeLoss, ...] = ()
    residents: int | None = None
    placing: Placing = Placing.BY_ROWS

    def __post_init__(self) -> None:
        for name, value, least in (
            ("nodes", self.nodes, 1),
            ("lookahead", self.lookahead, 0),
            ("residents", 1 if self.residents is None else self.residents, 1),
        ):
            if value < least:
                raise InvalidArgumentError(name, f"must be at least {least}, not {value}")
        if self.seconds_scales and len(self.seconds_scales) != self.nodes:
            raise InvalidArgumentError("seconds_scales", f"{self.nodes} are needed, one a node")
        if any(not scale > 0 for scale in self.seconds_scales):
            raise InvalidArgumentError("seconds_scales", "must be above 0")
        if not 0 <= self.jitter < 1:
            raise InvalidArgumentError("jitter", f"must be from 0 to below 1, not {self.jitter}")
        if self.slo_s is not None and not self.slo_s > 0:
            raise InvalidArgumentError("slo_s", f"must be above 0, not {self.slo_s}")
        if any(not 0 <= loss.node < self.nodes for loss in self.losses):
            raise InvalidArgumentError("losses", f"nodes are numbered from 0 to {self.nodes - 1}")

    def scale(self, node: int) -> float:
        """Return what work on a node takes relative to the profile."""
        return self.seconds_scales[node] if self.seconds_scales else 1.0
