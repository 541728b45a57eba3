"""Live comparisons on disk, and read as a matrix beside a profile's."""

from __future__ import annotations

import math
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from argus.control.profile import Circumstances, CostProfile, SizeCosts, StateCosts, VariantProfile
from argus.errors import ConfigError, InvalidArgumentError
from argus.quality.fit.folder import read_profile
from argus.quality.live import (
    Comparison,
    LiveFolder,
    LivePicture,
    beside,
    live_files,
    read_live,
)
from argus.quality.matrix import TEXTS, WHOLES, Header, Rows, ScoreMatrix, ScorerVersion
from argus.quality.profile import COSTS, SCORES
from argus.types import Level, StepCosts
from tests.unit.quality import build

REFERENCE = Level("base", "scenes-base", 1.0, 1.0)
HALF = Level("base-half", "scenes-base", 0.5, 0.98)
SKIP = Level("base-skip-10", "scenes-base", 1.0, 0.97, 0.1)
FACTS = ScorerVersion("facts", "1", ("facts", "all_facts"))
CLIP = ScorerVersion("clip", "1@abc", ("clip",))
LIVE = Header((REFERENCE, SKIP, HALF), (FACTS,), "facts", "", {"source": "facts"})
PROFILE = Header(
    (REFERENCE, replace(HALF, quality=0.95), SKIP), (FACTS, CLIP), "facts", "minilm", {"date": "x"}
)


def comparison(
    number: int, level: Level = HALF, made: float | None = 0.5, prompt: str = "a red circle"
) -> Comparison:
    skip = int(50 * level.skip_fraction)
    scores = {"facts": made, "all_facts": 0.0}
    return Comparison(
        id=f"shadow-{number}",
        prompt=prompt,
        seed=number,
        similarity=0.9 if skip else None,
        made=LivePicture(level, 25, skip, "n1", scores),
        reference=LivePicture(REFERENCE, 50, 0, "n2", {"facts": 0.8, "all_facts": 0.0}),
    )


def profile() -> ScoreMatrix:
    """Return a matrix of one prompt at all three levels."""
    texts = dict.fromkeys(TEXTS, ["p"] * 3) | {"level": [x.name for x in PROFILE.levels]}
    wholes = dict.fromkeys(WHOLES, [0] * 3)
    columns = {c: np.array([0.5, 0.4, 0.3]) for c in ("facts", "all_facts", "clip")}
    return ScoreMatrix(PROFILE, Rows(texts, wholes, np.array([math.nan] * 3), columns))


def test_what_was_appended_comes_back_as_relative_quality_of_the_profiles_levels(
    tmp_path: Path,
) -> None:
    folder = LiveFolder(tmp_path / "live", 100)
    folder.append(LIVE, comparison(1, HALF, 0.6))
    folder.append(LIVE, comparison(2, SKIP, 0.72, "A  red CIRCLE"))
    folder.append(LIVE, comparison(3, HALF, None, "a blue ring"))
    live = read_live(tmp_path / "live", profile())
    assert live.left_out == {}
    matrix = live.matrix
    assert matrix is not None
    nan = math.nan
    expected = [[1, 0.75, nan], [1, nan, 0.9], [1, nan, nan]]
    assert np.allclose(matrix.relative()[:, 0], expected, equal_nan=True)
    assert np.isnan(matrix.scores("clip")).all()
    assert matrix.prompts.texts == ("a red circle", "A  red CIRCLE", "a blue ring")
    assert set(matrix.prompts.splits) == {"train"}
    # Two ways to write one prompt must not end up on two sides of a split.
    first, same, other = matrix.prompts.groups
    assert first == same != other
    assert np.allclose(matrix.prompts.similarity, [nan, 0.9, nan], equal_nan=True)
    assert matrix.rows.wholes["seed"] == [1, 1, 2, 2, 3, 3]


def test_live_rows_go_behind_a_profiles_and_into_its_file_format(tmp_path: Path) -> None:
    folder = LiveFolder(tmp_path / "live", 100)
    folder.append(LIVE, comparison(1, HALF, 0.6))
    live = read_live(tmp_path / "live", profile()).matrix
    assert live is not None
    both = beside(profile(), live)
    both.write(tmp_path / "scores.parquet")
    again = ScoreMatrix.read(tmp_path / "scores.parquet")
    assert again.prompts.ids == ("p", "shadow-1")
    expected = [[1, 0.8, math.nan], [1, 0.75, math.nan]]
    assert np.allclose(again.relative()[:, 0], expected, equal_nan=True)
    assert again.header.levels == PROFILE.levels
    with pytest.raises(InvalidArgumentError, match="shadow-1"):
        beside(both, live)
    foreign = ScoreMatrix(replace(PROFILE, scorers=(CLIP,)), live.rows)
    with pytest.raises(InvalidArgumentError, match="levels and scorers"):
        beside(profile(), foreign)


@pytest.mark.parametrize(
    ("header", "level", "reason"),
    [
        (replace(LIVE, levels=(HALF, REFERENCE)), HALF, "reference"),
        (replace(LIVE, scorers=(replace(FACTS, version="2"),)), HALF, "facts 1"),
        (replace(LIVE, levels=(REFERENCE, replace(HALF, steps_fraction=0.4))), HALF, "base-half"),
        (LIVE, replace(HALF, name="base-fifth"), "base-fifth"),
    ],
)
def test_what_means_something_else_is_left_out_and_counted(
    tmp_path: Path, header: Header, level: Level, reason: str
) -> None:
    folder = LiveFolder(tmp_path, 100)
    folder.append(header, comparison(1, level))
    folder.append(LIVE, comparison(2))
    live = read_live(tmp_path, profile())
    ((why, number),) = live.left_out.items()
    assert reason in why
    assert number == 1
    assert live.matrix is not None
    assert live.matrix.prompts.ids == ("shadow-2",)


@pytest.mark.parametrize("most", [4, 10, 100])
def test_the_folder_stays_bounded_over_restarts_and_keeps_the_latest(
    tmp_path: Path, most: int
) -> None:
    for start in range(0, 90, 9):
        folder = LiveFolder(tmp_path, most)
        for i in range(start, start + 9):
            folder.append(LIVE, comparison(i))
            rows = sum(len(f.read_text().splitlines()) - 1 for f in live_files(tmp_path))
            assert rows <= most
    matrix = read_live(tmp_path, profile()).matrix
    assert matrix is not None
    kept = [int(name.removeprefix("shadow-")) for name in matrix.prompts.ids]
    assert kept == list(range(90 - len(kept), 90))
    assert len(kept) >= most // 4


def test_nobody_else_may_read_what_users_asked_for(tmp_path: Path) -> None:
    LiveFolder(tmp_path / "live", 100).append(LIVE, comparison(1))
    (file,) = live_files(tmp_path / "live")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "live").stat().st_mode) == 0o700


def test_a_line_cut_short_by_the_end_of_its_process_is_no_row(tmp_path: Path) -> None:
    folder = LiveFolder(tmp_path, 100)
    folder.append(LIVE, comparison(1))
    folder.append(LIVE, comparison(2))
    (file,) = live_files(tmp_path)
    whole = file.read_text()
    for cut in range(1, len(whole.splitlines(keepends=True)[-1])):
        file.write_text(whole[:-cut])
        matrix = read_live(tmp_path, profile()).matrix
        assert matrix is not None
        assert matrix.prompts.ids == ("shadow-1",)


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ('"schema": 1', '"schema": 2', "line 1"),
        ('"level": "base-half"', '"level": 3', "line 3"),
        ('"seed": 1, "level": "base-half"', '"level": "base-half"', "line 3"),
        ('"prompt_id": "shadow-1", "prompt": "a red', '"prompt_id": "x", "prompt": "a red', "id"),
        ("}\n{", "}\n?{", "line 2"),
    ],
)
def test_damage_is_named_by_its_line(tmp_path: Path, old: str, new: str, line: str) -> None:
    LiveFolder(tmp_path, 100).append(LIVE, comparison(1))
    (file,) = live_files(tmp_path)
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=line) as raised:
        read_live(tmp_path, profile())
    assert str(file) in str(raised.value)


def test_no_folder_and_an_empty_one_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        read_live(tmp_path / "none", profile())
    assert read_live(tmp_path, profile()).matrix is None


def profile_folder(path: Path) -> ScoreMatrix:
    """Write a profile of 40 prompts whose half level has .8 of the reference's score."""
    splits = ["train"] * 25 + ["calibration"] * 10 + ["test"] * 5
    scores = np.tile(np.array([0.5, 0.4, 0.3]), (40, 1, 1))
    matrix = build.matrix(scores, splits=splits)
    path.mkdir()
    matrix.write(path / SCORES)
    size = SizeCosts(
        64,
        64,
        StepCosts((2,), (0.1,)),
        (None,),
        0.3,
        None,
        {"png": 0.02},
        StateCosts(1, 1e-6, 1e-6),
    )
    costs = CostProfile(
        Circumstances("2026-01-02", "x", "cpu", "x", 1, 1, "float32", "x", "no", {"torch": "2"}),
        (VariantProfile("big", "StableDiffusionPipeline", 1.0, None, 0.01, False, (size,)),),
    )
    (path / COSTS).write_text(costs.to_json())
    return matrix


def test_fitting_learns_from_live_requests_but_not_from_prompts_it_is_judged_by(
    tmp_path: Path,
) -> None:
    matrix = profile_folder(tmp_path / "profile")
    whole, half, _ = build.LEVELS
    header = replace(matrix.header, circumstances={"source": "facts"})
    folder = LiveFolder(tmp_path / "live", 100)
    prompts = ("something new", "Prompt  number 30", "prompt number 3")
    for i, prompt in enumerate(prompts):
        made, reference = (
            LivePicture(level, 10, 0, "n", {"facts": score})
            for level, score in ((half, 0.2), (whole, 0.5))
        )
        folder.append(header, Comparison(f"shadow-{i}", prompt, i, None, made, reference))
    said: list[str] = []
    data = read_profile(tmp_path / "profile", None, tmp_path / "live", said.append)
    assert said == [
        "1 live pictures left out: a prompt that the profile keeps for calibration or test",
        "2 live pictures are learned from, too",
    ]
    plain = read_profile(tmp_path / "profile", None)
    train = data.split("train")
    assert len(train) == len(plain.split("train")) + 2
    assert np.allclose(train.targets[-2:], [[1, 0.4, math.nan]] * 2, equal_nan=True)
    assert np.nanmean(train.targets[:, 1]) == pytest.approx((25 * 0.8 + 2 * 0.4) / 27)
    for split in ("calibration", "test"):
        assert np.array_equal(data.split(split).targets, plain.split(split).targets)
    assert data.profile != plain.profile


def test_a_folder_of_which_nothing_fits_is_refused_rather_than_ignored(tmp_path: Path) -> None:
    profile_folder(tmp_path / "profile")
    LiveFolder(tmp_path / "live", 100).append(LIVE, comparison(1))
    with pytest.raises(ConfigError, match="no live picture that fits"):
        read_profile(tmp_path / "profile", None, tmp_path / "live")
