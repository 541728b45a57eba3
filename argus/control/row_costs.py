"""What rows cost on a node, by what it measured at its start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from argus.errors import NotFoundError
from argus.types import NodeInfo, VariantCosts, VariantInfo

_MOST_SHAPES = 512


class RowShape(NamedTuple):
    """What a row asks of a device; sizes in pixels. A tuple, since costs are looked up by it."""

    variant: str
    width: int
    height: int
    forwards: int
    lanes: int


@dataclass(frozen=True, slots=True)
class Resident:
    """A variant with its measured costs, and its step costs as a table by lanes."""

    info: VariantInfo
    costs: VariantCosts
    step_s: tuple[float, ...]

    def area(self, width: int, height: int) -> float:
        """Return the pixels relative to the native size."""
        return width * height / (self.info.width * self.info.height)

    def seconds(self, shape: RowShape, step_s: float) -> float:
        """Return the seconds of a row whose steps take `step_s` each at the native size."""
        steps_s = shape.forwards * step_s * self.area(shape.width, shape.height)
        return self.costs.text_encode_s + steps_s + self.costs.decode_s


class _ShapeCosts(NamedTuple):
    """What is asked of a shape again and again; `step_s` in a full batch, at the row's size."""

    idle_s: float
    busy_s: float
    device_s: float
    step_s: float
    text_encode_s: float
    decode_s: float


class RowCosts:
    """Seconds of rows on one node, at the speed of its start.

    Args:
        info: what the node says of itself.

    Attributes:
        residents: its variants, whether they are on its device or not, by name.
        slots: rows that step at once.
        max_lanes: of the widest forward.
    """

    def __init__(self, info: NodeInfo) -> None:
        self.slots = info.slots
        # A guided row's two lanes are never split.
        self.max_lanes = max(2, info.max_lanes)
        self.residents = {
            variant.name: Resident(variant, costs, self._step_table(costs))
            for variant, costs in zip(info.variants, info.costs, strict=True)
        }
        self._known: dict[RowShape, _ShapeCosts] = {}

    def resident(self, variant: str) -> Resident:
        """Return a variant.

        Raises:
            NotFoundError: the node has none of that name.
        """
        resident = self.residents.get(variant)
        if resident is None:
            raise NotFoundError("variant", variant, list(self.residents))
        return resident

    def full_lanes(self, shape: RowShape) -> int:
        """Return the lanes of a forward full of such rows, whose lanes are never split."""
        rows = min(self.max_lanes // shape.lanes, self.slots)
        return max(1, rows) * shape.lanes

    def idle_s(self, shape: RowShape) -> float:
        """Return the seconds the row would take with the node to itself."""
        return self._of(shape).idle_s

    def busy_s(self, shape: RowShape) -> float:
        """Return the seconds the row would take in full batches, from its start on."""
        return self._of(shape).busy_s

    def device_s(self, shape: RowShape) -> float:
        """Return the device seconds of a row in full batches: what it costs the others."""
        return self._of(shape).device_s

    def left_s(self, shape: RowShape, steps: int, encoded: bool) -> float:
        """Return the device seconds that a row still takes in full batches.

        Args:
            shape: of the row.
            steps: that are left.
            encoded: whether its text is done.
        """
        costs = self._of(shape)
        left_s = steps * costs.step_s + costs.decode_s
        return left_s if encoded else left_s + costs.text_encode_s

    def slowest_s(self) -> float:
        """Return the longest single piece of device work that may lawfully happen."""
        longest_s = 0.0
        for resident in self.residents.values():
            area = resident.area(resident.info.max_size, resident.info.max_size)
            pixels_s = max(resident.step_s[self.max_lanes], resident.costs.decode_s) * area
            longest_s = max(longest_s, pixels_s, resident.costs.text_encode_s)
        return longest_s

    def _of(self, shape: RowShape) -> _ShapeCosts:
        return self._known.get(shape) or self._look_up(shape)

    def _look_up(self, shape: RowShape) -> _ShapeCosts:
        resident = self.resident(shape.variant)
        lanes = self.full_lanes(shape)
        own_s = resident.step_s[lanes] * shape.lanes / lanes
        if len(self._known) >= _MOST_SHAPES:
            self._known.clear()
        costs = self._known[shape] = _ShapeCosts(
            idle_s=resident.seconds(shape, resident.step_s[shape.lanes]),
            busy_s=resident.seconds(shape, resident.step_s[lanes]),
            device_s=resident.seconds(shape, own_s),
            step_s=own_s * resident.area(shape.width, shape.height),
            text_encode_s=resident.costs.text_encode_s,
            decode_s=resident.costs.decode_s,
        )
        return costs

    def _step_table(self, costs: VariantCosts) -> tuple[float, ...]:
        return (0.0, *(costs.steps.step_s(lanes) for lanes in range(1, self.max_lanes + 1)))
