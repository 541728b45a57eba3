"""When will a row be done on a node? A model of step-level batching.

The engine gives every row that holds a slot one step per round. A round costs, for each batch key
(variant and size), the forwards needed to carry the key's lanes: with `L` lanes and at most `M`
a forward, `floor(L / M) · step_s(M) + step_s(L mod M)`, times the area relative to the native
size. So between two departures every row advances in lock step (processor sharing in whole steps):

    t += k · Σ_keys round_s(key),   k = fewest steps left among the rows that hold a slot

A row that takes a slot first adds its text encoding to `t`, one that ends adds its decoding: both
occupy the device and hold up the others. Where decoding runs on a stream of its own the prediction
is late by at most those seconds. Rows without a slot wait in order. Turns are taken to be even; a
one-lane row that fills a gap in others' forwards is faster than predicted. The cost of a batch
comes from the measured StepCosts and is never assumed to be linear.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from argus.errors import NotFoundError
from argus.types import NodeInfo, VariantCosts


@dataclass(frozen=True, slots=True)
class RowShape:
    """What a row asks of a device; sizes in pixels."""

    variant: str
    width: int
    height: int
    forwards: int
    lanes: int


@dataclass(slots=True)
class _Row:
    shape: RowShape
    steps_left: int
    started: bool = False


class NodeBacklog:
    """The rows a node holds, as far as its reports tell, and when they will be done.

    `draining` says that the node takes no new rows.
    """

    def __init__(self, info: NodeInfo) -> None:
        self.info = info
        self.draining = False
        self._rows: dict[str, _Row] = {}

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def row_ids(self) -> tuple[str, ...]:
        """Ids of the rows held, in the order they came."""
        return tuple(self._rows)

    def holds(self, variant: str) -> bool:
        """Return whether the variant is resident."""
        return self.info.variant(variant) is not None

    def add(self, row_id: str, shape: RowShape) -> None:
        """Take a row into the model.

        Raises:
            NotFoundError: its variant is not resident.
        """
        self._costs(shape.variant)
        self._rows[row_id] = _Row(shape, shape.forwards)

    def start(self, row_id: str) -> None:
        """Note that a row holds a slot; an unknown row is ignored."""
        if row_id in self._rows:
            self._rows[row_id].started = True

    def progress(self, row_id: str, steps_done: int) -> None:
        """Note that a row has done `steps_done` steps in all; an unknown row is ignored."""
        row = self._rows.get(row_id)
        if row is not None:
            row.started = True
            row.steps_left = max(0, row.shape.forwards - steps_done)

    def remove(self, row_id: str) -> None:
        """Forget a row; an unknown row is ignored."""
        self._rows.pop(row_id, None)

    def finish_s(self, shape: RowShape) -> float:
        """Return the seconds until a row added now would be done."""
        return self._finishes([*self._in_order(), _Row(shape, shape.forwards)])[-1]

    def idle_s(self, shape: RowShape) -> float:
        """Return the seconds the row would take with the node to itself."""
        return self._finishes([_Row(shape, shape.forwards)])[0]

    def drained_s(self) -> float:
        """Return the seconds until every row is done; 0 without rows."""
        return max(self._finishes(self._in_order()), default=0.0)

    def next_free_s(self) -> float:
        """Return the seconds until the first row is done; 0 without rows."""
        return min(self._finishes(self._in_order()), default=0.0)

    def device_s(self, shape: RowShape) -> float:
        """Return the device seconds of a row in full batches: what it costs the others."""
        costs = self._costs(shape.variant)
        lanes = max(self.info.max_lanes, shape.lanes)
        step_s = costs.steps.step_s(lanes) * shape.lanes / lanes * self._area(shape)
        return costs.text_encode_s + shape.forwards * step_s + costs.decode_s

    def slowest_s(self) -> float:
        """Return the longest single piece of device work among the rows held; 0 without rows."""
        longest = 0.0
        for row in self._rows.values():
            costs = self._costs(row.shape.variant)
            step_s = costs.steps.step_s(self.info.max_lanes) * self._area(row.shape)
            longest = max(longest, step_s, costs.text_encode_s, costs.decode_s)
        return longest

    def _in_order(self) -> list[_Row]:
        """Rows that hold a slot, then the others in the order they came."""
        return sorted(self._rows.values(), key=lambda row: not row.started)

    def _costs(self, variant: str) -> VariantCosts:
        costs = self.info.costs_of(variant)
        if costs is None:
            raise NotFoundError("variant", variant, [v.name for v in self.info.variants])
        return costs

    def _area(self, shape: RowShape) -> float:
        native = self.info.variant(shape.variant)
        if native is None:
            raise NotFoundError("variant", shape.variant, [v.name for v in self.info.variants])
        return shape.width * shape.height / (native.width * native.height)

    def _round_s(self, shapes: Iterable[RowShape]) -> float:
        """Return the seconds in which each of `shapes` makes one step."""
        lanes: dict[tuple[str, int, int], list[int]] = {}
        sample: dict[tuple[str, int, int], RowShape] = {}
        for shape in shapes:
            key = (shape.variant, shape.width, shape.height)
            lanes.setdefault(key, []).append(shape.lanes)
            sample[key] = shape
        total_s = 0.0
        for key, taken in lanes.items():
            steps = self._costs(sample[key].variant).steps
            width = self._usable_lanes(taken)
            full, rest = divmod(sum(taken), width)
            seconds = full * steps.step_s(width) + (steps.step_s(rest) if rest else 0.0)
            total_s += seconds * self._area(sample[key])
        return total_s

    def _usable_lanes(self, taken: Sequence[int]) -> int:
        """Return the lanes of a full forward: a guided row's two are never split."""
        if min(taken) == 1:
            return self.info.max_lanes
        return max(2, self.info.max_lanes - self.info.max_lanes % 2)

    def _finishes(self, rows: Sequence[_Row]) -> list[float]:
        """Return the seconds until each row is done, in the order given."""
        finish_s = [0.0] * len(rows)
        waiting = deque(range(len(rows)))
        ends: list[tuple[int, int]] = []  # (round in which the row makes its last step, row)
        now_s, rounds = 0.0, 0
        while waiting or ends:
            while waiting and len(ends) < self.info.slots:
                i = waiting.popleft()
                if not rows[i].started:
                    now_s += self._costs(rows[i].shape.variant).text_encode_s
                heappush(ends, (rounds + rows[i].steps_left, i))
            last_round = ends[0][0]
            now_s += (last_round - rounds) * self._round_s(rows[i].shape for _, i in ends)
            rounds = last_round
            while ends and ends[0][0] == rounds:
                i = heappop(ends)[1]
                now_s += self._costs(rows[i].shape.variant).decode_s
                finish_s[i] = now_s
        return finish_s
