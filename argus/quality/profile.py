"""A profile as a folder: costs, scores, summary, report."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from argus.control.profile import CostProfile
from argus.errors import ConfigError
from argus.quality.costs import image_seconds
from argus.quality.matrix import ScoreMatrix
from argus.quality.pictures import WorkFolder
from argus.quality.report import Section, render_report
from argus.quality.summary import seed_noise, summarise

COSTS, SCORES, NEIGHBOURS = "costs.json", "scores.parquet", "neighbours.parquet"
SUMMARY, REPORT = "summary.json", "report.html"
SCHEMA = 1


def read_costs(path: Path) -> CostProfile:
    """Return the cost profile in a file.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return CostProfile.from_json(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error


def reference_steps(matrix: ScoreMatrix) -> int:
    """Return the steps of the reference level's pictures.

    Raises:
        ConfigError: the matrix has none.
    """
    name = matrix.levels[0].name
    steps = (
        steps
        for level, steps in zip(
            matrix.rows.texts["level"], matrix.rows.wholes["steps"], strict=True
        )
        if level == name
    )
    found = next(steps, None)
    if found is None:
        raise ConfigError(f"{SCORES}: no picture of the reference level {name}")
    return found


def write_profile(
    folder: Path,
    matrix: ScoreMatrix,
    neighbours: ScoreMatrix | None,
    costs: CostProfile | None,
    work: WorkFolder | None,
    more: tuple[Section, ...] = (),
) -> dict[str, Any]:
    """Write a profile's files and return its summary.

    Args:
        folder: where to; made where it does not exist.
        matrix: the scores.
        neighbours: of the cached prompts; None without.
        costs: None where they were not measured.
        work: pictures for the report; None: none are shown.
        more: sections of the report after its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    seconds = None
    if costs is not None:
        (folder / COSTS).write_text(costs.to_json(), encoding="utf-8")
        seconds = image_seconds(costs, matrix.levels, reference_steps(matrix))
    matrix.write(folder / SCORES)
    if neighbours is not None:
        neighbours.write(folder / NEIGHBOURS)
    levels, noise = summarise(matrix, seconds), seed_noise(matrix)
    summary = {
        "schema": SCHEMA,
        "fingerprint": matrix.fingerprint(),
        "prompts": len(matrix.prompts.ids),
        "pictures": len(matrix.rows),
        "main": matrix.header.main,
        "levels": [_plain(asdict(level)) for level in levels],
        "seed_noise": None if noise is None else _plain(asdict(noise)),
    }
    text = json.dumps(summary, indent=1) + "\n"
    (folder / SUMMARY).write_text(text, encoding="utf-8")
    title = f"Profile of {', '.join(dict.fromkeys(level.variant for level in matrix.levels))}"
    page = render_report(title, matrix, levels, noise, work, more)
    (folder / REPORT).write_text(page, encoding="utf-8")
    return summary


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    """Return fields as JSON can hold them: no NaN, and no digits that mean nothing."""
    return {
        name: (None if value != value else round(value, 6)) if isinstance(value, float) else value
        for name, value in fields.items()
    }
