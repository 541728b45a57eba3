"""What the allocator is asked and what it answers."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass

from argus.errors import InvalidArgumentError
from argus.types import Level

Holding = frozenset[str]
"""The variants that a node holds."""


@dataclass(frozen=True, slots=True)
class Group:
    """Nodes that cost the same.

    Attributes:
        name: of the group.
        present: how many of the nodes hold which variants now.
        seconds: device seconds of one picture, by level; levels it cannot run are left out, those
            of variants it could load are not.
        memory_bytes: for weights, on each node.
        load_s: seconds until a variant is loaded; those that cannot be loaded are left out.
    """

    name: str
    present: Mapping[Holding, int]
    seconds: Mapping[str, float]
    memory_bytes: float = math.inf
    load_s: Mapping[str, float] | None = None

    @property
    def nodes(self) -> int:
        """How many there are."""
        return sum(self.present.values())


@dataclass(frozen=True, slots=True)
class PromptClass:
    """Prompts that levels suit alike.

    Attributes:
        name: of the class.
        rate_per_s: requests a second.
        quality: expected relative quality by level; levels not open to it are left out.
        floor: least mean quality of what is made of it.
        unmet_loss: what it costs not to make a picture, beyond the quality it would have had.
    """

    name: str
    rate_per_s: float
    quality: Mapping[str, float]
    floor: float = 0.0
    unmet_loss: float = 0.0


@dataclass(frozen=True, slots=True)
class Problem:
    """Who asks for how much, and what there is to make it with.

    Attributes:
        levels: by falling quality.
        groups: of nodes.
        classes: of prompts.
        weights_bytes: by variant; a variant left out takes nothing.
        occupancy: share ρ of the device seconds that is planned for; the rest keeps queues short,
            so that the tail is on time.
        horizon_s: for how long a move is expected to be of use: the seconds a load takes are lost
            once in this time.
        move_loss: quality given up for each second of loading, so that nothing moves for nothing.
    """

    levels: tuple[Level, ...]
    groups: tuple[Group, ...]
    classes: tuple[PromptClass, ...]
    weights_bytes: Mapping[str, float]
    occupancy: float = 0.9
    horizon_s: float = 300.0
    move_loss: float = 0.01

    def __post_init__(self) -> None:
        """Check what a caller can get wrong.

        Raises:
            InvalidArgumentError: names the field.
        """
        if not 0.0 < self.occupancy <= 1.0:
            raise InvalidArgumentError("occupancy", f"must be in (0, 1], not {self.occupancy}")
        if not self.horizon_s > 0.0:
            raise InvalidArgumentError("horizon_s", f"must be above 0, not {self.horizon_s}")
        names = {level.name for level in self.levels}
        if len(names) < len(self.levels):
            raise InvalidArgumentError("levels", "names must differ")
        for group in self.groups:
            _known(f"groups.{group.name}.seconds", group.seconds, names)
            _finite(f"groups.{group.name}.seconds", group.seconds, above=0.0)
            if any(count < 0 for count in group.present.values()):
                raise InvalidArgumentError(f"groups.{group.name}.present", "counts below 0")
        for kind in self.classes:
            _known(f"classes.{kind.name}.quality", kind.quality, names)
            _finite(f"classes.{kind.name}.quality", kind.quality)
            _finite(f"classes.{kind.name}", {"rate_per_s": kind.rate_per_s}, least=0.0)


def _known(field: str, values: Mapping[str, float], names: set[str]) -> None:
    for name in values:
        if name not in names:
            raise InvalidArgumentError(field, f"there is no level {name!r}")


def _finite(
    field: str, values: Mapping[str, float], above: float = -math.inf, least: float = -math.inf
) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value > above and value >= least):
            raise InvalidArgumentError(field, f"{name}: {value} is not allowed")


class Solved(enum.Enum):
    """How an allocation came about; all but the last are within the gap of the optimum."""

    KEPT = "kept"
    """The present residency is good enough."""
    ROUNDED = "rounded"
    """Whole nodes next to the relaxed optimum, within the gap of it."""
    OPTIMAL = "optimal"
    """By branch and bound."""
    FALLBACK = "fallback"
    """Best of those found; the time was over before it was proven to be good."""


@dataclass(frozen=True, slots=True)
class Move:
    """So many nodes of a group change what they hold."""

    before: Holding
    after: Holding
    nodes: int


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """What the nodes of a group are to hold and to make.

    Attributes:
        name: of the group.
        residency: how many nodes are to hold which variants.
        moves: from the present residency.
        rates_per_s: pictures a second by level.
        price: worth of one more device second a second, spread evenly over the group's nodes, in
            units of quality: the dual of its capacity with residency fixed.
    """

    name: str
    residency: Mapping[Holding, int]
    moves: tuple[Move, ...]
    rates_per_s: Mapping[str, float]
    price: float


@dataclass(frozen=True, slots=True)
class Allocation:
    """What to make of whom, and where.

    Attributes:
        shares: by class, the share of its requests that each level gets; what is missing to 1 is
            not made.
        groups: residency, flows and price of each group.
        objective: quality a second, less what moves and unmet requests cost.
        bound: that no residency can exceed.
        solved: how it came about.
    """

    shares: Mapping[str, Mapping[str, float]]
    groups: tuple[GroupPlan, ...]
    objective: float
    bound: float
    solved: Solved

    def unmet(self, name: str) -> float:
        """Return the share of a class's requests that is not made."""
        return max(0.0, 1.0 - math.fsum(self.shares[name].values()))

    @property
    def moves(self) -> int:
        """How many nodes change what they hold."""
        return sum(move.nodes for group in self.groups for move in group.moves)
