"""What `make bench-serving` sends, and what it keeps of the answers.

A cell is a shape of arrivals at a load. A turn is all cells under one policy in one repeat, in one
life of a coordinator. In a repeat all policies meet the same arrivals, prompts and noises.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from replay import Ended, Wanted

from argus.quality.matrix import ScoreMatrix
from argus.quality.prompts import Prompt
from argus.quality.run import Job
from argus.quality.scorers import Judged, Scorer
from argus.sim.shapes import draw_arrivals

FOLDER = Path(__file__).parents[1] / "models" / "weights" / "profile"


@dataclass(frozen=True, slots=True)
class Cell:
    """A shape of arrivals at a load.

    Attributes:
        shape: name in `argus.sim.shapes`.
        load: mean arrivals over what the nodes make of the reference level.
    """

    shape: str
    load: float

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"{self.shape} {self.load:g}"


CELLS = (Cell("poisson", 0.8), Cell("poisson", 1.0), Cell("poisson", 1.3), Cell("step", 0.8))
"""The last: from one second to the next five times the demand, for the middle third. At a mean of
0.8 that is 0.34 and 1.7 of what the reference level allows."""


@dataclass(frozen=True, slots=True)
class Served:
    """One request of a cell. Times in seconds from the cell's start.

    Attributes:
        due_s: when it was due.
        sent_s, end_s: when it was sent, and when it ended.
        prompt_id, repeat: of the prompt and its noise.
        level: it was made at; '' without a picture.
        predicted: relative quality as the answer states it.
        score: of the picture by the verifier; NaN without one.
        error: in place of a picture, its class.
    """

    due_s: float
    sent_s: float
    end_s: float
    prompt_id: str
    repeat: int
    level: str
    predicted: float
    score: float
    error: str


@dataclass(frozen=True, slots=True)
class CellRun:
    """A cell under one policy.

    Attributes:
        cell: its name.
        served: the requests in order of arrival.
        shares: of one core, what the client, the coordinator and all nodes together took.
    """

    cell: str
    served: tuple[Served, ...]
    shares: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> CellRun:
        """Return what was written."""
        served = tuple(Served(**row) for row in data["served"])
        return CellRun(data["cell"], served, data["shares"])


def held_out() -> tuple[Prompt, ...]:
    """Return the prompts of the bundled profile's test split: no predictor has seen them."""
    found = ScoreMatrix.read(FOLDER / "scores.parquet").prompts
    columns = (found.ids, found.texts, found.kinds, found.splits, found.groups)
    prompts = (Prompt(*row) for row in zip(*columns, strict=True))
    return tuple(prompt for prompt in prompts if prompt.split == "test")


def draw(
    cell: Cell, capacity: float, seconds: int, pool: Sequence[Job], seed: int
) -> list[tuple[Wanted, Job]]:
    """Return the requests of a cell, each with what it is of.

    Args:
        cell: which.
        capacity: pictures a second of the reference level.
        seconds: length of the trace.
        pool: prompts with their noise, drawn in an order of their own; from the start again when
            all were drawn.
        seed: of arrivals and order.
    """
    arrivals = draw_arrivals(cell.shape, cell.load * capacity, seconds, seed)
    order = np.random.default_rng(seed).permutation(len(pool))
    jobs = [pool[order[i % len(pool)]] for i in range(len(arrivals))]
    return [
        (Wanted(float(at_s), job.prompt.text, job.seed), job)
        for at_s, job in zip(arrivals, jobs, strict=True)
    ]


def kept(
    drawn: Sequence[tuple[Wanted, Job]], ended: Sequence[Ended], scorer: Scorer
) -> tuple[Served, ...]:
    """Return what is kept of each request; pictures are scored and dropped."""
    judged = [
        Judged(job.prompt.text, _pixels(end.image.data))
        for (_, job), end in zip(drawn, ended, strict=True)
        if end.image is not None
    ]
    scores = iter(scorer.score(judged)[scorer.columns[0]].tolist() if judged else ())
    served = []
    for (wanted, job), end in zip(drawn, ended, strict=True):
        image = end.image
        prompt_id, repeat, _ = job.key
        served.append(
            Served(
                wanted.at_s,
                end.sent_s,
                end.end_s,
                prompt_id,
                repeat,
                image.level if image else "",
                image.predicted_quality if image else float("nan"),
                next(scores) if image else float("nan"),
                end.error,
            )
        )
    return tuple(served)


def _pixels(data: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    with PIL.Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))
