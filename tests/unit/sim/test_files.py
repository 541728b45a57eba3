"""The files as the issue states them, and what is said of wrong ones."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from argus.errors import ConfigError
from argus.sim import files
from argus.sim.engine import simulate
from argus.sim.profile import dump_profile, parse_profile
from argus.sim.published import modelled_prompts, published_profile
from argus.sim.setting import NodeLoss, SimSetting
from argus.sim.types import Batching, SimProfile, VariantTimes
from tests.unit.sim.simple import BestOnTime, trace_of

PROFILE = published_profile()
LEVELS = [level.name for level in PROFILE.levels]


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "file.csv"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_arrivals_come_back_as_they_were_written(tmp_path: Path) -> None:
    trace = trace_of([0.0, 0.25, 1e4], 'p "quoted", with a comma')
    files.write_arrivals(tmp_path / "a.csv", trace)
    back = files.read_arrivals(tmp_path / "a.csv")
    assert back.arrival_s.tolist() == trace.arrival_s.tolist()
    assert back.prompt_id.tolist() == trace.prompt_id.tolist()
    header = (tmp_path / "a.csv").read_text().splitlines()[0]
    assert header == "arrival_s,prompt_id"


def test_prompts_come_back_as_they_were_written(tmp_path: Path) -> None:
    prompts = modelled_prompts(PROFILE, 50, seed=2)
    files.write_prompts(tmp_path / "p.csv", prompts, LEVELS)
    back = files.read_prompts(tmp_path / "p.csv", LEVELS)
    assert back.ids.tolist() == prompts.ids.tolist()
    for name in ("similarity", "quality", "predicted"):
        np.testing.assert_allclose(getattr(back, name), getattr(prompts, name), atol=5e-7)
    header = (tmp_path / "p.csv").read_text().splitlines()[0].split(",")
    assert header[:4] == ["prompt_id", "similarity", "quality_skip-0", "quality_skip-5"]
    assert header[8] == "predicted_skip-0"


def test_an_outcome_has_a_row_for_every_arrival_and_comes_back(tmp_path: Path) -> None:
    prompts = modelled_prompts(PROFILE, 50, seed=2)
    trace = trace_of(np.arange(200) * 0.2, "7")
    setting = SimSetting(losses=(NodeLoss(1, 5.0, 9.0),))
    outcome = simulate(trace, prompts, PROFILE, BestOnTime(), setting)
    files.write_outcome(tmp_path / "out.csv", outcome)
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert ",".join(rows[0]) == (
        "prompt_id,arrival_s,start_s,finish_s,level,node,deadline_s,quality,status"
    )
    assert len(rows) == 200
    assert {row["status"] for row in rows} == {"on_time", "dropped"}
    assert all((row["level"] == "-1") == (row["status"] == "dropped") for row in rows)
    assert all((row["start_s"] == "nan") == (row["status"] == "dropped") for row in rows)
    back = files.read_outcome(tmp_path / "out.csv")
    for name in ("arrival_s", "start_s", "finish_s", "level", "node", "deadline_s", "quality"):
        np.testing.assert_array_equal(getattr(back, name), getattr(outcome, name))
    assert back.status.tolist() == outcome.status.tolist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ":1: arrival_s: the column is missing"),
        ("arrival_s\n0\n", ":1: prompt_id: the column is missing"),
        ("prompt_id,arrival_s\n", ":1: column 1 must be 'arrival_s', not 'prompt_id'"),
        ("arrival_s,prompt_id,more\n", ":1: more: unknown column"),
        ("arrival_s,prompt_id\n", "holds no arrival"),
        ("arrival_s,prompt_id\n0,a\nx,a\n", ":3: arrival_s: a number is needed, not 'x'"),
        ("arrival_s,prompt_id\n0,a\n\nx,a\n", ":4: arrival_s: a number is needed, not 'x'"),
        ("arrival_s,prompt_id\n-1,a\n", ":2: arrival_s: must be finite and from 0 upwards, not -1"),
        ("arrival_s,prompt_id\nnan,a\n", ":2: arrival_s: must be finite and from 0 upwards"),
        ("arrival_s,prompt_id\n2,a\n1,a\n", ":3: arrival_s: is earlier than in the line above"),
        ("arrival_s,prompt_id\n2,\n", ":2: prompt_id: is empty"),
        ("arrival_s,prompt_id\n2,a,b\n", ":2: 2 columns are needed, not 3"),
    ],
)
def test_wrong_arrivals_are_named_with_file_and_line(
    file: Callable[[str], Path], text: str, message: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        files.read_arrivals(file(text))
    assert message in str(raised.value)
    assert "file.csv" in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt_id,similarity,quality_a,predicted_b\n", ":1: column 4 must be 'predicted_a'"),
        ("prompt_id,similarity,quality_a,predicted_a\n", "holds no prompt"),
        ("prompt_id,similarity,quality_a,predicted_a\np,2,1,1\n", ":2: similarity: must be"),
        ("prompt_id,similarity,quality_a,predicted_a\np,1,3,1\n", ":2: quality_a: must be"),
        ("prompt_id,similarity,quality_a,predicted_a\np,1,1,\n", ":2: predicted_a: a number is"),
        (
            "prompt_id,similarity,quality_a,predicted_a\np,1,1,1\np,1,1,1\n",
            ":3: prompt_id: 'p' stands in line 2 already",
        ),
    ],
)
def test_wrong_prompts_are_named_with_file_and_line(
    file: Callable[[str], Path], text: str, message: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        files.read_prompts(file(text), ["a"])
    assert message in str(raised.value)


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="nowhere.csv: cannot be read"):
        files.read_arrivals(Path("nowhere.csv"))


STATED: dict[str, Any] = {
    "levels": [
        {"name": "full", "variant": "v", "skip": 0, "seconds": 4.2, "quality": 1.0},
        {"name": "half", "variant": "v", "skip": 25, "seconds": 2.1, "quality": 0.9},
        {"name": "few", "variant": "v", "skip": 0, "seconds": 0.84, "quality": 0.8},
        {"name": "small", "variant": "w", "skip": 0, "seconds": 1.0, "quality": 0.7},
    ],
    "batching": {"lanes": [1, 2, 4], "seconds_scale": [0.6, 1.0, 1.8]},
    "slo_s": 12.6,
}


def test_a_profile_as_the_issue_states_it_is_read() -> None:
    profile = parse_profile(json.dumps(STATED), "p.json")
    assert [level.name for level in profile.levels] == ["full", "half", "few", "small"]
    assert [level.forwards for level in profile.levels] == [50, 25, 10, 50]
    assert (profile.batching.row_lanes, profile.batching.slots) == (2, 2)
    assert profile.slo_s == 12.6


def test_a_profile_comes_back_as_it_was_written() -> None:
    profile = SimProfile(
        PROFILE.levels, 9.0, Batching((2, 4), (1.0, 1.5)), {"sdxl": VariantTimes(0.0, 0.2, 47.0)}
    )
    assert parse_profile(dump_profile(profile), "p.json") == profile


def edited(**changes: Any) -> str:
    return json.dumps({**STATED, **changes})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "p.json: not JSON"),
        (edited(slo_s=0), "p.json: slo_s: must be above 0, not 0"),
        (edited(slow=1), "p.json: slow: unknown field (did you mean 'slo_s'?)"),
        (edited(levels=[]), "p.json: levels: a list with at least one entry is needed"),
        (edited(levels=[{"name": "a"}]), "p.json: levels[0].variant: missing"),
        (edited(levels=[STATED["levels"][0]] * 2), "p.json: levels: names must be unique"),
        (edited(levels=[{**STATED["levels"][0], "skip": 50}]), "levels[0].skip: must be below 50"),
        (edited(levels=[{**STATED["levels"][0], "seconds": -1}]), "levels[0].seconds: must be"),
        (edited(batching={"lanes": [2]}), "p.json: batching.seconds_scale: missing"),
        (
            edited(batching={"lanes": [2, 4], "seconds_scale": [1]}),
            "p.json: batching.seconds_scale: as many are needed as lanes, 2",
        ),
        (
            edited(batching={"lanes": [2, 4], "seconds_scale": [2, 3]}),
            "p.json: batching.seconds_scale: must be 1 at the lanes of one row",
        ),
        (edited(batching={"lanes": [4, 2], "seconds_scale": [1, 2]}), "batching.lanes: must asc"),
        (edited(variants={"x": {}}), "p.json: variants.x: unknown field"),
    ],
)
def test_wrong_profiles_are_named_with_file_and_field(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_profile(text, "p.json")
    assert message in str(raised.value)
