"""`argus workload` and `argus simulate` from files to figures, in a process of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from argus.sim.files import read_arrivals, read_outcome, read_prompts
from argus.sim.profile import parse_profile
from argus.sim.published import published_profile
from tests.unit.cli.running import argus
from tests.unit.sim.checking import check

LEVELS = [level.name for level in published_profile().levels]


async def made(folder: Path) -> None:
    """Write the three files."""
    steps = (
        ("profile", "--out", "profile.json"),
        ("prompts", "--out", "prompts.csv", "--count", "200"),
        (
            *("arrivals", "--out", "arrivals.csv", "--prompts", "prompts.csv"),
            *("--load", "1.1", "--seconds", "120", "--seed", "3"),
        ),
    )
    for step in steps:
        run = await argus("workload", *step, cwd=folder)
        assert run.code == 0, run.stderr


INPUTS = (
    *("simulate", "--trace", "arrivals.csv", "--prompts", "prompts.csv"),
    *("--profile", "profile.json", "--policy", "argus"),
)


async def test_from_files_to_figures_and_a_log(tmp_path: Path) -> None:
    await made(tmp_path)
    run = await argus(
        *INPUTS, "--nodes", "8", "--slo", "12.6", "--log", "out.csv", "--json", cwd=tmp_path
    )
    assert run.code == 0, run.stderr
    figures = json.loads(run.stdout)
    trace = read_arrivals(tmp_path / "arrivals.csv")
    prompts = read_prompts(tmp_path / "prompts.csv", LEVELS)
    outcome = read_outcome(tmp_path / "out.csv")
    profile = parse_profile((tmp_path / "profile.json").read_text(), "profile.json")
    check(outcome, trace, prompts, profile, 12.6)
    assert figures["offered"] == len(trace)
    assert figures["on_time"] == int(outcome.on_time.sum())
    assert figures["mean_quality_all"] == pytest.approx(outcome.quality_of_all)
    assert figures["mean_quality_all"] <= figures["bound"] <= 1
    assert {"answered", "violations", "mean_quality_answered", "goodput_per_s", "levels"} <= set(
        figures
    )
    assert figures["decisions_per_s"] > 0


async def test_a_table_for_people_and_errors_that_name_the_place(tmp_path: Path) -> None:
    await made(tmp_path)
    run = await argus(
        *INPUTS, "--lose", "3@20-60", "--outage", "30-50", "--jitter", "--no-bound", cwd=tmp_path
    )
    assert run.code == 0, run.stderr
    assert b"violations" in run.stdout
    (tmp_path / "arrivals.csv").write_text("arrival_s,prompt_id\n0,1\nsoon,1\n")
    run = await argus(*INPUTS, cwd=tmp_path)
    assert run.code != 0
    assert "arrivals.csv:3: arrival_s: a number is needed, not 'soon'" in run.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--policy", "argos"), "did you mean 'argus'"),
        (("--predictions", "none"), "--predictions: noisy or perfect"),
        (("--lose", "x"), "--lose: must be NODE@FROM or NODE@FROM-TO"),
        (("--lose", "99@1"), "losses: nodes are numbered from 0 to 7"),
        (("--outage", "9-3"), "--outage: must end after it begins"),
        (("--node-seconds", "1,2"), "seconds_scales: 8 are needed"),
    ],
)
async def test_wrong_flags_are_named(tmp_path: Path, flags: tuple[str, str], message: str) -> None:
    run = await argus(*INPUTS, *flags, cwd=tmp_path)
    assert run.code == 2
    assert message in run.stderr
