"""The benchmark of the control plane compares what it says it compares."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import control_judged as judged
import control_measured as measured
import control_more as more
import control_published as published
import control_search as search
import numpy as np
import pytest
from control_cells import (
    MEASURED,
    PROFILES,
    Contender,
    Job,
    Predictions,
    Scenario,
    draw_prompts,
    mean_and_half,
    run,
)

from argus.control.policies import PolicyOptions
from argus.quality.matrix import ScoreMatrix

SMALL = Scenario("poisson", 1.1, 3, 120)


def test_intervals_are_students() -> None:
    mean, half = mean_and_half([1.0, 2.0, 4.0])
    assert mean == pytest.approx(7 / 3)
    # t(0.975, 2) = 4.3027; the standard deviation is 1.5275.
    assert half == pytest.approx(4.3027 * 1.5275 / math.sqrt(3), rel=1e-4)


def test_policies_of_a_scenario_meet_the_same_requests() -> None:
    who = (Contender("argus", "argus"), Contender("quick", "clipper-ht"))
    rows = run(Job(SMALL, who, curves=True))
    assert rows[0].bound == rows[1].bound >= max(row.quality for row in rows) - 1e-9
    assert [x[0] for x in rows[0].curve] == [x[0] for x in rows[1].curve]
    again = run(Job(SMALL, who))
    assert [(r.quality, r.violations) for r in again] == [(r.quality, r.violations) for r in rows]


def test_predictions_of_noise_are_those_of_other_prompts() -> None:
    table = draw_prompts("published", 4000, 1)
    who = tuple(Contender(p.value, "argus", predictions=p, recalibrated=False) for p in Predictions)
    quality = {r.contender.label: r.quality for r in run(Job(SMALL, who, bounds=False))}
    assert quality["perfect"] > quality["noisy"] > quality["noise"]
    assert abs(np.corrcoef(table.predicted[:, 3], table.quality[:, 3])[0, 1]) > 0.5


def test_a_load_is_that_of_full_batches() -> None:
    plain = Scenario("poisson", 1.0, 1, 100)
    assert plain.rate == pytest.approx(8 / 4.2)
    batched = replace(plain, profile="published, batched")
    scale = measured.batching().seconds_scale[-1]
    lanes = measured.batching().lanes[-1]
    assert batched.rate == pytest.approx(8 / 4.2 * lanes / 2 / scale)


def test_the_measured_ladder_has_the_scores_of_the_matrix() -> None:
    profile = PROFILES[MEASURED]()
    matrix = ScoreMatrix.read(measured.FOLDER / "scores.parquet")
    scored = measured.scored()
    own = [i for i, x in enumerate(matrix.prompts.splits) if x == "calibration"]
    with np.errstate(invalid="ignore"):
        relative = matrix.relative()[own]
    name = profile.levels[3].name
    column = [level.name for level in matrix.levels].index(name)
    means = [np.nanmean(row[:, column]) for row in relative if np.isfinite(row[:, 0]).any()]
    assert sorted(scored.quality[:, 3]) == pytest.approx(sorted(means))
    assert profile.levels[0].forwards == 50
    assert [x.seconds for x in profile.levels] == sorted(
        (x.seconds for x in profile.levels), reverse=True
    )


def test_the_best_of_the_search_is_taken(tmp_path: Path) -> None:
    rows = [
        {"policy": policy, "period s": 5.0 if policy in search.PLANNED else "none",
         "headroom": 1.25 if policy in search.PLANNED else "none",
         "sheds": sheds, "quality of all %": good, "violations %": 0.0}
        for policy in search.BASELINES
        for sheds, good in (("yes", 90.0), ("no", 95.0 if policy == "pac" else 80.0))
    ]  # fmt: skip
    file = tmp_path / f"{search.NAME}.json"
    file.write_text(json.dumps({"tables": {"chosen": rows}}))
    best = {c.policy: c for c in search.chosen(tmp_path)}
    assert best["pac"].options == PolicyOptions(5.0, 1.25, shed=False)
    assert best["nirvana"].options == PolicyOptions(shed=True)
    assert all(c.options.shed is False for c in search.chosen(tmp_path, sheds=False))
    assert {c.policy for c in judged.contenders(tmp_path)} == {"argus", *search.BASELINES}


def test_no_setting_is_chosen_on_what_is_judged() -> None:
    assert not set(search.SHAPES) & set(judged.SHAPES)
    assert max(search.SEEDS) < judged.FIRST_SEED


def test_failures_are_at_the_peak() -> None:
    found = more.failures(1000, 1)
    scenario, _ = found["two of eight nodes lost at the peak"]
    lost = scenario.setting.losses
    assert [loss.at_s for loss in lost] == [scenario.seconds / 2] * 2
    assert found["predictions are noise"][1] is Predictions.NOISE


def test_the_published_peak_is_beyond_the_fastest_level() -> None:
    (job,) = published.jobs(Path(), 100, 1)
    profile = PROFILES[published.FAST]()
    assert job.scenario.rate == pytest.approx(390 / 60)
    assert job.scenario.rate > profile.capacity(8, level=5)
