"""`argus profile --prompts` with real processes: made, resumed, scored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from argus.models import bundled_dir
from argus.quality.domain import draw_domain, write_domain
from argus.quality.matrix import ScoreMatrix
from argus.quality.pictures import WorkFolder

from .conftest import argus

pytestmark = [pytest.mark.integration, pytest.mark.slow]
LEVELS = {
    "reference": {"variant": "scenes-small"},
    "levels": [
        {"name": "whole", "variant": "scenes-small", "steps_fraction": 1.0, "quality": 1.0},
        {"name": "tenth", "variant": "scenes-small", "steps_fraction": 0.1, "quality": 0.9},
    ],
}


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("given")
    for level in LEVELS["levels"]:
        level["measured"] = "for a test"
    (folder / "levels.json").write_text(json.dumps(LEVELS), encoding="utf-8")
    prompts, neighbours = write_domain(folder, draw_domain(9, 3))
    return [
        *("profile", "--prompts", str(prompts), "--neighbours", str(neighbours)),
        *("--levels", str(folder / "levels.json"), "--skips", "0.5"),
        *("--model", str(bundled_dir() / "scenes-small"), "--scorers", "facts,pixels"),
        *("--costs", str(bundled_dir() / "profile" / "costs.json"), "--clip", str(folder)),
        *("--threads", "1", "--max-lanes", "4"),
    ]


def test_every_level_of_every_prompt_is_made_scored_and_reported(
    given: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "profile"
    done = argus(*given, "--out", str(out), timeout_s=300)
    assert done.returncode == 0, done.stderr
    matrix = ScoreMatrix.read(out / "scores.parquet")
    assert [level.name for level in matrix.levels] == ["whole", "tenth", "whole-skip-50"]
    assert len(matrix.rows) == 27
    near = matrix.prompts.similarity > 1e-5
    assert sum(skip > 0 for skip in matrix.rows.wholes["skip"]) == near.sum()
    # The cluster found the neighbours that comparing with every one finds.
    work = WorkFolder(out / ".work", json.loads((out / ".work" / "settings.json").read_text()))
    similarity = dict(zip(matrix.prompts.ids, matrix.prompts.similarity, strict=True))
    for made in work:
        if made.skipped:
            assert made.similarity == pytest.approx(similarity[made.prompt_id], abs=5e-3)
    assert (matrix.rows.scores["pixels"] > 0).sum() > 0
    assert "whole-skip-50" in (out / "report.html").read_text(encoding="utf-8")

    # Nothing is made again, and nothing with other settings is taken for the same.
    before = (out / ".work" / "made.jsonl").read_bytes()
    again = argus(*given, "--out", str(out), timeout_s=300)
    assert again.returncode == 0, again.stderr
    assert (out / ".work" / "made.jsonl").read_bytes() == before
    other = argus(*given, "--out", str(out), "--repeats", "2", timeout_s=60)
    assert other.returncode != 0
    assert "another repeats" in other.stderr
