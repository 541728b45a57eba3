"""What a node has to do, and when a row would be done there."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace

from argus.control.forecast import BatchKey, Job, finish_times
from argus.control.row_costs import RowCosts, RowShape
from argus.types import NodeInfo

PATIENCE_S = 60.0
"""Every row is due so long after it came at the latest, deadline or not; else it could wait for
ever. The engine has the same rule."""
_MOST_ANSWERS = 512


def due_s(now_s: float, deadline_at_s: float) -> float:
    """Return when a row given to a node now would be due there.

    Args:
        now_s: seconds of some clock.
        deadline_at_s: on the same clock; infinity without a deadline.
    """
    return min(deadline_at_s, now_s + PATIENCE_S)


@dataclass(slots=True)
class _Row:
    shape: RowShape
    due_s: float
    steps_left: int
    holds_slot: bool = False
    started: bool = False


class NodeBacklog:
    """The rows a node holds, as far as its reports tell, and when they will be done.

    A free slot goes to the row that is due first and is kept to its last step. Answers are kept
    until a row comes, moves or goes: routing asks the same again and again.
    """

    def __init__(self, info: NodeInfo) -> None:
        self.info = info
        self._draining = False
        self._full = False
        self._slowness = 1.0
        self._on_change: Callable[[str], None] | None = None
        self._on_regroup: Callable[[], None] | None = None
        self._costs = RowCosts(info)
        self._serving = frozenset(self._costs.residents)
        self._rows: dict[str, _Row] = {}
        self._line: list[_Row] | None = None
        self._jobs: list[Job] | None = None
        self._answers: dict[tuple[RowShape, int], float] = {}
        self._filled: dict[tuple[RowShape, int], float] = {}
        self._ends_s: list[float] | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def watch(self, on_change: Callable[[str], None], on_regroup: Callable[[], None]) -> None:
        """Have `on_change` called with the node's name whenever its work or its room changes.

        Progress and the start of a row that has a slot do not count: they were expected. When it
        serves other variants than before, `on_regroup` is called.
        """
        self._on_change = on_change
        self._on_regroup = on_regroup

    @property
    def serving(self) -> frozenset[str]:
        """Variants that it may be given rows of; at first all that it has."""
        return self._serving

    @serving.setter
    def serving(self, variants: frozenset[str]) -> None:
        serving = frozenset(variants & self._costs.residents.keys())
        if serving != self._serving:
            self._serving = serving
            if self._on_regroup is not None:
                self._on_regroup()

    @property
    def draining(self) -> bool:
        """Whether the node takes no new rows, for good."""
        return self._draining

    @draining.setter
    def draining(self, draining: bool) -> None:
        self._draining = draining
        self._tell()

    @property
    def full(self) -> bool:
        """Whether it refused a row for want of room, and has not spoken since."""
        return self._full

    @full.setter
    def full(self, full: bool) -> None:
        if full != self._full:
            self._full = full
            self._tell()

    def has_room_below(self, limit: int) -> bool:
        """Whether it takes another row now, as long as it has fewer than `limit`."""
        return not self._draining and not self._full and len(self._rows) < limit

    @property
    def slowness(self) -> float:
        """Seconds that steps take lately, relative to those measured at the node's start."""
        return self._slowness

    @slowness.setter
    def slowness(self, slowness: float) -> None:
        if slowness != self._slowness:
            self._slowness = slowness
            self._tell()

    @property
    def row_ids(self) -> tuple[str, ...]:
        """Ids of the rows held, in the order they came."""
        return tuple(self._rows)

    @property
    def wanted(self) -> set[str]:
        """Variants of the rows held."""
        return {row.shape.variant for row in self._rows.values()}

    @property
    def variants(self) -> frozenset[str]:
        """All that it has, whether they are on its device or not."""
        return frozenset(self._costs.residents)

    def holds(self, variant: str) -> bool:
        """Return whether rows of the variant may be given to it."""
        return variant in self._serving

    def rows_of(self, variant: str) -> int:
        """Return how many of its rows are of a variant."""
        return sum(row.shape.variant == variant for row in self._rows.values())

    def add(self, row_id: str, shape: RowShape, due_s: float = math.inf) -> None:
        """Take a row into the model.

        Args:
            row_id: its id.
            shape: what it asks.
            due_s: when it is due, on the clock of the other rows; infinity: after all of them.

        Raises:
            NotFoundError: its variant is not resident.
        """
        self._costs.resident(shape.variant)
        self._rows[row_id] = _Row(shape, due_s, shape.forwards)
        self._changed()

    def start(self, row_id: str) -> None:
        """Note that a row holds a slot; an unknown row is ignored."""
        row = self._rows.get(row_id)
        if row is not None and not row.started:
            expected = row.holds_slot
            row.started = row.holds_slot = True
            if expected:
                self._moved()
            else:
                self._changed()

    def progress(self, row_id: str, steps_done: int) -> None:
        """Note that a row has done `steps_done` steps in all; an unknown row is ignored."""
        row = self._rows.get(row_id)
        if row is not None:
            row.started = row.holds_slot = True
            row.steps_left = max(0, row.shape.forwards - steps_done)
            self._moved()
            if not row.steps_left:
                self._give_slots()

    def share_done(self, row_id: str) -> float:
        """Return the share of a row's steps that were reported; 1 of an unknown row."""
        row = self._rows.get(row_id)
        return 1.0 if row is None else 1.0 - row.steps_left / row.shape.forwards

    def at_an_edge(self, row_id: str) -> bool:
        """Whether a row has not done its first step yet, or has done its last; so an unknown row.

        What is wrong with a request shows when it is taken in and when it is decoded.
        """
        row = self._rows.get(row_id)
        return row is None or row.steps_left in (0, row.shape.forwards)

    def reshape(self, row_id: str, shape: RowShape) -> None:
        """Note that a row asks for something else than was thought; an unknown row is ignored."""
        row = self._rows.get(row_id)
        if row is not None:
            done = row.shape.forwards - row.steps_left
            row.shape, row.steps_left = shape, max(0, shape.forwards - done)
            self._changed()

    def remove(self, row_id: str) -> None:
        """Forget a row; an unknown row is ignored."""
        if self._rows.pop(row_id, None) is not None:
            self._changed()

    def finish_s(self, shape: RowShape, due_s: float = math.inf) -> float:
        """Return the seconds until a row added now, due at `due_s`, would be done."""
        line = self._in_order()
        place = bisect_right(line, due_s, key=_due_s)
        answer = self._answers.get((shape, place))
        if answer is None:
            jobs = self._jobs_in_order().copy()
            jobs.insert(place, self._job(_Row(shape, due_s, shape.forwards)))
            answer = self._finishes(jobs, place)[place]
            if len(self._answers) >= _MOST_ANSWERS:
                self._answers.clear()
            self._answers[shape, place] = answer
        return answer * self._slowness

    def filled_s(self, shape: RowShape, due_s: float = math.inf) -> float:
        """Return the seconds until a row added now would be done, were all slots taken with it.

        Rows that join later slow down those that are there, which `finish_s` cannot know of. They
        count by the lanes that they add to the forwards of what is there, not by their text and
        pixels, and not as of variants or sizes that are not there yet.
        """
        if not self._rows:
            return self.busy_s(shape)
        line = self._in_order()
        place = bisect_right(line, due_s, key=_due_s)
        answer = self._filled.get((shape, place))
        if answer is None:
            rows = line.copy()
            rows.insert(place, _Row(shape, due_s, shape.forwards))
            answer = self._finishes(self._filled_jobs(rows), place)[place]
            if len(self._filled) >= _MOST_ANSWERS:
                self._filled.clear()
            self._filled[shape, place] = answer
        return answer * self._slowness

    def idle_s(self, shape: RowShape) -> float:
        """Return the seconds the row would take with the node to itself."""
        return self._costs.idle_s(shape) * self._slowness

    def busy_s(self, shape: RowShape) -> float:
        """Return the seconds the row would take in full batches, from its start on."""
        return self._costs.busy_s(shape) * self._slowness

    def work_s(self) -> float:
        """Return the device seconds that its rows still take in full batches."""
        left_s = self._costs.left_s
        rows = self._rows.values()
        return sum([left_s(x.shape, x.steps_left, x.started) for x in rows]) * self._slowness

    def drained_s(self) -> float:
        """Return the seconds until every row is done; 0 without rows."""
        return max(self._ends(), default=0.0) * self._slowness

    def next_free_s(self) -> float:
        """Return the seconds until the first row is done; 0 without rows."""
        return min(self._ends(), default=0.0) * self._slowness

    def device_s(self, shape: RowShape) -> float:
        """Return the device seconds of a row in full batches: what it costs the others."""
        return self._costs.device_s(shape) * self._slowness

    def slowest_s(self) -> float:
        """Return the longest single piece of device work that may lawfully happen.

        It does not ask which rows are held: the work of a row that was just cancelled goes on.
        """
        return self._costs.slowest_s() * max(1.0, self._slowness)

    def _changed(self) -> None:
        self._moved()
        self._give_slots()
        self._tell()

    def _moved(self) -> None:
        self._line = self._jobs = self._ends_s = None
        self._answers.clear()
        self._filled.clear()

    def _tell(self) -> None:
        if self._on_change is not None:
            self._on_change(self.info.name)

    def _give_slots(self) -> None:
        if len(self._rows) <= self.info.slots:
            for row in self._rows.values():
                row.holds_slot = True
            return
        held = sum([row.holds_slot and row.steps_left > 0 for row in self._rows.values()])
        if held < self.info.slots:
            waiting = [row for row in self._in_order() if not row.holds_slot]
            for row in waiting[: self.info.slots - held]:
                row.holds_slot = True

    def _in_order(self) -> list[_Row]:
        """Return the rows by due time, then in the order they came."""
        if self._line is None:
            self._line = sorted(self._rows.values(), key=_due_s)
        return self._line

    def _ends(self) -> list[float]:
        if self._ends_s is None:
            self._ends_s = self._finishes(self._jobs_in_order())
        return self._ends_s

    def _jobs_in_order(self) -> list[Job]:
        if self._jobs is None:
            self._jobs = [self._job(row) for row in self._in_order()]
        return self._jobs

    def _finishes(self, jobs: list[Job], until: int | None = None) -> list[float]:
        return finish_times(jobs, self.info.slots, self._costs.max_lanes, until)

    def _filled_jobs(self, rows: list[_Row]) -> list[Job]:
        """Return the jobs of rows whose forwards are as wide as the slots left allow."""
        free = max(0, self.info.slots - len(rows))
        lanes: dict[BatchKey, int] = {}
        full: dict[BatchKey, int] = {}
        jobs = [self._job(row) for row in rows]
        for row, job in zip(rows, jobs, strict=True):
            lanes[job.key] = lanes.get(job.key, 0) + job.lanes
            full[job.key] = max(full.get(job.key, 0), self._costs.full_lanes(row.shape))
        filled = []
        for job in jobs:
            wide = min(full[job.key], lanes[job.key] + free * job.lanes)
            step_s = (job.step_s[wide],) * len(job.step_s)
            filled.append(replace(job, step_s=step_s))
        return filled

    def _job(self, row: _Row) -> Job:
        shape = row.shape
        resident = self._costs.resident(shape.variant)
        return Job(
            key=(shape.variant, shape.width, shape.height),
            lanes=shape.lanes,
            steps_left=row.steps_left,
            holds_slot=row.holds_slot,
            step_s=resident.step_s,
            area=resident.area(shape.width, shape.height),
            text_encode_s=0.0 if row.started else resident.costs.text_encode_s,
            decode_s=resident.costs.decode_s,
        )


def _due_s(row: _Row) -> float:
    return row.due_s
