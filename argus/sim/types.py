"""What a simulated run is given: arrivals, prompts, a profile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from argus.errors import InvalidArgumentError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Texts = NDArray[np.str_]

GUIDED_LANES = 2
"""Lanes of a row with classifier-free guidance."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Who comes when.

    Attributes:
        arrival_s: seconds from the trace's start, ascending, one for each request.
        prompt_id: of the same length; what is asked for.
    """

    arrival_s: Floats
    prompt_id: Texts

    def __post_init__(self) -> None:
        if len(self.arrival_s) != len(self.prompt_id):
            raise InvalidArgumentError(
                "trace.prompt_id",
                f"as many are needed as arrivals, {len(self.arrival_s)}, not {len(self.prompt_id)}",
            )
        if not np.all(np.isfinite(self.arrival_s)) or np.any(np.diff(self.arrival_s) < 0):
            raise InvalidArgumentError("trace.arrival_s", "must be finite and ascend")

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def span_s(self) -> float:
        """Seconds from the first arrival to the last; 0 for fewer than two."""
        return float(self.arrival_s[-1] - self.arrival_s[0]) if len(self) else 0.0


@dataclass(frozen=True, slots=True)
class PromptTable:
    """What is true of each prompt, and what is predicted of it.

    Attributes:
        ids: unique, (n,).
        similarity: cosine to the nearest cached prompt, (n,).
        quality: true relative quality by level in the ladder's order, (n, levels).
        predicted: what the control plane is told, (n, levels).
    """

    ids: Texts
    similarity: Floats
    quality: Floats
    predicted: Floats

    def __post_init__(self) -> None:
        n = len(self.ids)
        if len(self.similarity) != n:
            raise InvalidArgumentError("prompts.similarity", f"{n} values are needed")
        if self.quality.ndim != 2 or self.quality.shape[0] != n:
            raise InvalidArgumentError("prompts.quality", f"a row for each of {n} is needed")
        if self.predicted.shape != self.quality.shape:
            raise InvalidArgumentError("prompts.predicted", "must be of the shape of quality")
        if len(np.unique(self.ids)) != n:
            raise InvalidArgumentError("prompts.prompt_id", "must be unique")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def levels(self) -> int:
        """Number of levels."""
        return int(self.quality.shape[1])

    @staticmethod
    def numbered(similarity: Floats, quality: Floats, predicted: Floats) -> PromptTable:
        """Return a table whose ids are the numbers of its rows."""
        ids = np.array([str(row) for row in range(len(similarity))])
        return PromptTable(ids, similarity, quality, predicted)

    def perfect(self) -> PromptTable:
        """Return the same prompts with predictions that are true."""
        return PromptTable(self.ids, self.similarity, self.quality, self.quality)

    def rows(self, trace: Trace) -> Ints:
        """Return the row of each arrival's prompt.

        Raises:
            InvalidArgumentError: names the first arrival whose prompt is not in the table.
        """
        index = {name: row for row, name in enumerate(self.ids.tolist())}
        rows = [index.get(name, -1) for name in trace.prompt_id.tolist()]
        if -1 in rows:
            at = rows.index(-1)
            raise InvalidArgumentError(
                "trace.prompt_id",
                f"arrival {at}: prompt {str(trace.prompt_id[at])!r} is not among the prompts",
            )
        return np.array(rows, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class SimLevel:
    """One level of the ladder as measured on one node.

    Attributes:
        name: unique.
        variant: whose weights it runs.
        skip: K, steps that a cached state stands for.
        seconds: of a row alone on an idle node, without retrieval.
        quality: mean relative quality.
        forwards: steps that are run.
    """

    name: str
    variant: str
    skip: int
    seconds: float
    quality: float
    forwards: int

    @property
    def steps(self) -> int:
        """Steps of the whole schedule."""
        return self.forwards + self.skip


@dataclass(frozen=True, slots=True)
class VariantTimes:
    """What a variant takes beside its steps, seconds.

    Attributes:
        text_encode_s: before the first step of a row, on the device.
        decode_s: after its last.
        load_s: from the folder onto the device.
    """

    text_encode_s: float = 0.0
    decode_s: float = 0.0
    load_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Batching:
    """Seconds of a step by lanes, relative to a step of one row alone.

    A row takes as many lanes as the entry whose scale is 1. One entry: rows are never batched.
    """

    lanes: tuple[int, ...] = (GUIDED_LANES,)
    seconds_scale: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if not self.lanes or len(self.lanes) != len(self.seconds_scale):
            raise InvalidArgumentError(
                "batching.seconds_scale", f"as many are needed as lanes, {len(self.lanes)}"
            )
        if any(a >= b for a, b in zip(self.lanes, self.lanes[1:], strict=False)):
            raise InvalidArgumentError("batching.lanes", f"must ascend: {self.lanes}")
        if 1.0 not in self.seconds_scale or self.row_lanes not in (1, GUIDED_LANES):
            raise InvalidArgumentError(
                "batching.seconds_scale",
                "must be 1 at the lanes of one row, which are 1 or 2: seconds are relative to it",
            )

    @property
    def row_lanes(self) -> int:
        """Lanes of one row."""
        return self.lanes[self.seconds_scale.index(1.0)]

    @property
    def max_lanes(self) -> int:
        """Lanes of the widest forward."""
        return self.lanes[-1]

    @property
    def slots(self) -> int:
        """Rows that step at once in the widest forward."""
        return self.max_lanes // self.row_lanes


@dataclass(frozen=True, slots=True)
class SimProfile:
    """A ladder with its costs, the reference level first.

    Attributes:
        levels: in the ladder's order.
        slo_s: seconds from arrival within which a picture is on time.
        batching: what wider forwards take.
        variants: what is known of variants beside their levels; others take nothing.
    """

    levels: tuple[SimLevel, ...]
    slo_s: float
    batching: Batching = Batching()
    variants: Mapping[str, VariantTimes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.levels:
            raise InvalidArgumentError("levels", "at least one is needed")
        names = [level.name for level in self.levels]
        if len(set(names)) != len(names):
            raise InvalidArgumentError("levels", f"names must be unique: {', '.join(names)}")

    @property
    def variant_names(self) -> tuple[str, ...]:
        """Variants in the order in which levels name them first."""
        return tuple(dict.fromkeys(level.variant for level in self.levels))

    def times(self, variant: str) -> VariantTimes:
        """Return what a variant takes beside its steps."""
        return self.variants.get(variant, VariantTimes())

    def whole_of(self, level: int) -> int:
        """Return the level that a row becomes when its state is not there: all its steps.

        Where the ladder has no such level, the first of its variant.
        """
        wanted = self.levels[level]
        own = [i for i, other in enumerate(self.levels) if other.variant == wanted.variant]
        same = (i for i in own if not self.levels[i].skip and self.levels[i].steps == wanted.steps)
        return next(same, own[0])

    def capacity(self, nodes: int, level: int = 0) -> float:
        """Return the requests a second that nodes of speed 1 can make at one level, unbatched."""
        return nodes / self.levels[level].seconds
