"""`argus workload` and `argus simulate` from files to figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from argus.sim.files import (
    read_arrivals,
    read_outcome,
    read_prompts,
    write_arrivals,
    write_prompts,
)
from argus.sim.logs import drawn_trace
from argus.sim.profile import dump_profile, parse_profile
from argus.sim.published import modelled_prompts, published_profile
from tests.unit.cli.running import Here
from tests.unit.sim.checking import check

LEVELS = [level.name for level in published_profile().levels]


def spoil(arrivals: Path) -> None:
    """Leave a line that is not an arrival."""
    arrivals.write_text("arrival_s,prompt_id\n0,1\nsoon,1\n")


async def made(here: Here) -> None:
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
        run = await here("workload", *step)
        assert run.code == 0, run.stderr


def write_inputs(folder: Path) -> None:
    """Write small ones without a process for each."""
    profile = published_profile()
    prompts = modelled_prompts(profile, 20, seed=1)
    (folder / "profile.json").write_text(dump_profile(profile))
    write_prompts(folder / "prompts.csv", prompts, LEVELS)
    write_arrivals(folder / "arrivals.csv", drawn_trace("poisson", 1.0, 30, prompts, seed=1))


INPUTS = (
    *("simulate", "--trace", "arrivals.csv", "--prompts", "prompts.csv"),
    *("--profile", "profile.json", "--policy", "argus"),
)


async def test_from_files_to_figures_and_a_log(here: Here, tmp_path: Path) -> None:
    await made(here)
    run = await here(*INPUTS, "--nodes", "8", "--slo", "12.6", "--log", "out.csv", "--json")
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


async def test_a_table_for_people_and_errors_that_name_the_place(here: Here) -> None:
    write_inputs(Path())
    run = await here(*INPUTS, "--lose", "3@5-20", "--outage", "5-9", "--jitter", "--no-bound")
    assert run.code == 0, run.stderr
    assert b"violations" in run.stdout
    spoil(Path("arrivals.csv"))
    run = await here(*INPUTS)
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
async def test_wrong_flags_are_named(here: Here, flags: tuple[str, str], message: str) -> None:
    write_inputs(Path())
    run = await here(*INPUTS, *flags)
    assert run.code == 2
    assert message in run.stderr
