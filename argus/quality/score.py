"""From pictures to the score matrix."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from argus.errors import FailedPreconditionError
from argus.quality.matrix import TEXTS, WHOLES, Header, Rows, ScoreMatrix, ScorerVersion
from argus.quality.nearest import Nearest
from argus.quality.pictures import Key, Made, WorkFolder, read_pixels
from argus.quality.prompts import Prompt
from argus.quality.run import NEIGHBOUR, RunPlan
from argus.quality.scorers import Columns, Judged, Scorer, open_scorers

BATCH = 64
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Scoring:
    """Which scorers, from which folder, and in how many processes."""

    scorers: tuple[str, ...]
    clip: Path | None
    main: str
    processes: int = 1


def score_profile(
    plan: RunPlan,
    work: WorkFolder,
    scoring: Scoring,
    nearest: Nearest | None,
    circumstances: Mapping[str, str],
    progress: Progress,
) -> tuple[ScoreMatrix, ScoreMatrix | None]:
    """Return the matrix of the prompts, and that of the neighbours if there are any.

    Args:
        plan: what was made.
        work: where the pictures are.
        scoring: what judges them.
        nearest: what tells each prompt's nearest neighbour; None without neighbours.
        circumstances: for readers of the matrix.
        progress: told how many pictures are judged of how many.

    Raises:
        FailedPreconditionError: a picture of the plan was not made.
    """
    made = [_made(work, job.key) for job in plan.jobs()]
    beside = [_made(work, job.key) for job in plan.neighbour_jobs()]
    prompts = {p.id: p for p in (*plan.prompts, *plan.neighbours)}
    reference = plan.levels[0].name
    pictures = [_Picture(prompts[m.prompt_id].text, m.key, reference) for m in (*made, *beside)]
    values, versions = _judge(pictures, work, scoring, progress)
    header = Header(
        tuple(plan.levels),
        versions,
        scoring.main,
        nearest.embedder if nearest else "",
        circumstances,
    )
    own = {name: column[: len(made)] for name, column in values.items()}
    matrix = ScoreMatrix(header, _rows(made, prompts, plan, nearest, own))
    if not beside:
        return matrix, None
    rest = {name: column[len(made) :] for name, column in values.items()}
    return matrix, ScoreMatrix(header, _rows(beside, prompts, plan, None, rest))


@dataclass(frozen=True, slots=True)
class _Picture:
    """A picture to be judged: what was asked for, where it is, the level it is measured against."""

    prompt: str
    key: Key
    reference: str


def _made(work: WorkFolder, key: Key) -> Made:
    if key not in work:
        prompt, repeat, level = key
        raise FailedPreconditionError(
            f"{work.path}: no picture of prompt {prompt}, repeat {repeat}, level {level}"
        )
    return work[key]


def _judge(
    pictures: Sequence[_Picture], work: WorkFolder, scoring: Scoring, progress: Progress
) -> tuple[Columns, tuple[ScorerVersion, ...]]:
    """Return a value for each picture by column, and who said so."""
    parts: list[Columns] = []
    batches = [pictures[at : at + BATCH] for at in range(0, len(pictures), BATCH)]
    pool = ProcessPoolExecutor(
        scoring.processes,
        # A forked child of a process with threads may hang.
        mp_context=get_context("spawn"),
        initializer=_open,
        initargs=(scoring, work.path),
    )
    with pool:
        versions = pool.submit(_versions).result()
        done = 0
        for batch, columns in zip(batches, pool.map(_score, batches), strict=True):
            parts.append(columns)
            done += len(batch)
            progress(done, len(pictures))
    names = [name for version in versions for name in version.columns]
    return {name: np.concatenate([part[name] for part in parts]) for name in names}, versions


_opened: tuple[tuple[Scorer, ...], Path] = ((), Path())
"""Scorers of a child process, and the work folder."""


def _open(scoring: Scoring, folder: Path) -> None:
    global _opened
    import torch

    torch.set_num_threads(1)
    _opened = open_scorers(scoring.scorers, scoring.clip), folder


def _versions() -> tuple[ScorerVersion, ...]:
    return tuple(ScorerVersion(s.name, s.version, s.columns) for s in _opened[0])


def _score(batch: Sequence[_Picture]) -> dict[str, NDArray[np.float64]]:
    scorers, folder = _opened
    judged = [Judged(p.prompt, read_pixels(folder, p.key), _reference(folder, p)) for p in batch]
    found: dict[str, NDArray[np.float64]] = {}
    for scorer in scorers:
        found |= scorer.score(judged)
    return found


def _reference(folder: Path, picture: _Picture) -> NDArray[np.uint8] | None:
    prompt, repeat, level = picture.key
    if level in (picture.reference, NEIGHBOUR):
        return None
    return read_pixels(folder, (prompt, repeat, picture.reference))


def _rows(
    made: Sequence[Made],
    prompts: Mapping[str, Prompt],
    plan: RunPlan,
    nearest: Nearest | None,
    scores: Columns,
) -> Rows:
    levels = {level.name: level for level in plan.levels} | {NEIGHBOUR: plan.levels[0]}
    similarity = np.full(len(made), np.nan)
    texts: dict[str, list[str]] = {name: [] for name in TEXTS}
    wholes: dict[str, list[int]] = {name: [] for name in WHOLES}
    for i, m in enumerate(made):
        prompt, level = prompts[m.prompt_id], levels[m.level]
        found = nearest.of(prompt.text) if nearest else None
        if found is not None:
            similarity[i] = found.similarity
        row = {
            "prompt_id": prompt.id,
            "prompt": prompt.text,
            "kind": prompt.kind,
            "split": prompt.split,
            "group": prompt.group,
            "level": level.name,
            "variant": level.variant,
            "neighbour_id": found.id if found and m.skipped else "",
            "node": m.node,
        }
        for name in TEXTS:
            texts[name].append(row[name])
        numbers = {"repeat": m.repeat, "seed": m.seed, "steps": m.steps, "skip": m.skipped}
        for name in WHOLES:
            wholes[name].append(numbers[name])
    return Rows(texts, wholes, similarity, dict(scores))
