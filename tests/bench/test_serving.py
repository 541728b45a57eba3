"""What `make bench-serving` and `make test-sim-real` count, on answers whose figures are known."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import PIL.Image
import pytest
from replay import Ended, Wanted
from serving_cells import CELLS, Cell, CellRun, Served, draw, held_out, kept
from serving_report import Judging, Results, figures
from sim_real import (
    LEVELS,
    SLOTS,
    Compared,
    Pair,
    alone_s,
    full_s,
    mean_costs,
    outcome_of,
    profile_of,
    slower,
)

from argus.client.result import ImageResult
from argus.control.policies import make
from argus.quality.prompts import Prompt
from argus.quality.run import WHOLE, Job
from argus.quality.scorers import Judged
from argus.sim.engine import simulate
from argus.sim.outcome import Status
from argus.sim.setting import SimSetting
from argus.sim.types import PromptTable, Trace
from argus.types import ImageFormat, Level, StepCosts, VariantCosts

JUDGING = Judging({("p", 0): 0.8, ("q", 0): 1.0, ("zero", 0): 0.0}, 2.0, 1.0, 11.0)


def served(due_s: float, took_s: float, **other: Any) -> Served:
    fields = {
        "prompt_id": "p",
        "repeat": 0,
        "level": "base",
        "predicted": 1.0,
        "score": 0.8,
        "error": "",
    }
    return Served(due_s, due_s, due_s + took_s, **fields | other)


def missed(due_s: float, error: str, prompt: str = "p") -> Served:
    nan = math.nan
    return served(due_s, 0.1, prompt_id=prompt, level="", predicted=nan, score=nan, error=error)


def run_of(*requests: Served) -> CellRun:
    return CellRun("poisson 1", requests, {"client": 0.1, "coordinator": 0.1, "nodes": 1.0})


def test_figures_count_what_was_due_after_the_lead_by_how_it_ended() -> None:
    found = figures(
        run_of(
            served(0.5, 9.0),  # in the lead
            served(2.0, 1.9),  # relative 1
            served(3.0, 2.1, prompt_id="q"),  # late
            served(4.0, 1.0, prompt_id="q", level="small", score=0.5),  # relative .5
            missed(5.0, "OverloadedError"),
            missed(6.0, "DeadlineError", "q"),
            missed(7.0, "UnavailableError"),
            served(8.0, 1.0, prompt_id="zero", score=0.3),  # in time, but of no defined quality
        ),
        JUDGING,
    )
    assert found.requests == 7
    assert found.goodput == pytest.approx(3 / 10)
    assert (found.refused, found.dropped, found.late) == pytest.approx((1 / 7, 1 / 7, 2 / 7))
    assert found.violations == pytest.approx(4 / 7)
    assert found.quality_all == pytest.approx(1.5 / 6)
    assert found.quality_on_time == pytest.approx(0.75)
    assert found.levels == {"base": 2, "small": 1}


def test_a_cell_in_which_nothing_was_due_has_no_shares() -> None:
    found = figures(run_of(), JUDGING)
    assert found.requests == found.goodput == 0
    assert math.isnan(found.quality_all)


def test_tables_pair_argus_with_each_other_within_a_repeat() -> None:
    good, bad = served(2.0, 1.0), missed(2.0, "OverloadedError")
    cell = Cell("poisson", 1)
    turns = {
        "argus": {r: {cell.name: run_of(good, good)} for r in (0, 1)},
        "clipper-ha": {r: {cell.name: run_of(good, bad)} for r in (0, 1)},
    }
    tables = Results(JUDGING, [cell], turns).tables()
    first, second = tables["Policies side by side"]
    assert (first["violations %"], second["violations %"]) == ("0.0 ± 0.0", "50.0 ± 0.0")
    assert second["of them refused"] == "50.0"
    (pair,) = tables["Argus less each other, repeat by repeat"]
    assert pair["quality of all, points"] == "50.0 ± 0.0"
    assert pair["goodput/s"] == "0.10 ± 0.00"
    assert [row["base"] for row in tables["Levels, % of the pictures in time"]] == ["100", "100"]
    (level,) = tables["What was predicted and what was found"]
    assert (level["pictures"], level["found %"]) == (6, "100.0")


def test_what_is_kept_of_a_run_survives_its_file() -> None:
    import json

    run = run_of(served(2.0, 1.0), missed(3.0, "DeadlineError"))
    again = CellRun.from_json(json.loads(json.dumps(run.to_json())))
    assert again.served[0] == run.served[0]
    assert math.isnan(again.served[1].score)
    assert again.shares == run.shares


def test_cells_draw_held_out_prompts_the_same_for_everybody() -> None:
    level = Level("base", "scenes-base", 1.0, 1.0)
    prompts = held_out()
    assert len(prompts) == 159
    assert {prompt.split for prompt in prompts} == {"test"}
    pool = [Job((p.id, 0, "base"), p, i, level, WHOLE) for i, p in enumerate(prompts)]
    cell = CELLS[2]
    drawn = draw(cell, 8.0, 20, pool, seed=3)
    assert drawn == draw(cell, 8.0, 20, pool, seed=3)
    assert len(drawn) == pytest.approx(cell.load * 8.0 * 20, abs=4 * math.sqrt(208))
    assert len({job.key for _, job in drawn[:159]}) == min(159, len(drawn))
    assert all(wanted.seed == job.seed for wanted, job in drawn)


def picture(value: int) -> ImageResult:
    data = io.BytesIO()
    PIL.Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(data, "PNG")
    return ImageResult(
        "r", "p", data.getvalue(), ImageFormat.PNG, 4, 4, 0, "v", "small", "ddim", 20, 0, 3.0, 0.9,
        "node-0", 0.0, 0.1, 0.1, 2, 1, 0.0,
    )  # fmt: skip


class Brightness:
    """Scores pictures by something a test can choose."""

    name = "brightness"
    version = "1"
    columns = ("facts",)

    def score(self, batch: list[Judged]) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
        return {"facts": np.array([judged.pixels.mean() / 255 for judged in batch])}


def test_scores_go_to_the_requests_whose_pictures_they_are_of() -> None:
    level = Level("base", "scenes-base", 1.0, 1.0)
    prompt = Prompt("p", "a red circle")
    drawn = [
        (Wanted(float(i), prompt.text, i), Job(("p", i, "base"), prompt, i, level, WHOLE))
        for i in range(3)
    ]
    ended = [
        Ended(0.0, 1.0, picture(255)),
        Ended(1.0, 1.1, None, "OverloadedError"),
        Ended(2.0, 3.0, picture(51)),
    ]
    rows = kept(drawn, ended, Brightness())
    assert [row.repeat for row in rows] == [0, 1, 2]
    assert rows[0].score == 1.0
    assert math.isnan(rows[1].score)
    assert rows[2].score == pytest.approx(0.2)
    assert rows[1].error == "OverloadedError"


# -- the simulator against reality --------------------------------------------------------------

COSTS = VariantCosts(StepCosts((2, 4, 6, 8), (0.03, 0.03, 0.0306, 0.036)), 0.002, 0.004)


def test_the_profile_is_what_nodes_say_of_their_steps() -> None:
    profile = profile_of(COSTS, slo_s=1.0)
    assert profile.batching.lanes == (2, 4, 6, 8)
    assert profile.batching.seconds_scale == pytest.approx((1.0, 1.0, 1.02, 1.2))
    assert profile.levels[0].seconds == pytest.approx(alone_s(COSTS)) == pytest.approx(0.606)
    assert profile.levels[1].seconds == pytest.approx(0.306)
    slow = profile_of(slower(COSTS, 1.1), 1.0)
    assert slow.levels[0].seconds == pytest.approx(1.1 * 0.606)
    assert slow.batching.seconds_scale == pytest.approx(profile.batching.seconds_scale)


def test_costs_of_several_nodes_count_as_their_mean() -> None:
    found = mean_costs([COSTS, slower(COSTS, 1.2)])
    assert found.steps.seconds == pytest.approx(slower(COSTS, 1.1).steps.seconds)
    assert (found.text_encode_s, found.decode_s) == pytest.approx((0.0022, 0.0044))


def test_simulated_rows_take_what_full_batches_cost() -> None:
    """All places are taken at once."""
    n = 2 * SLOTS
    trace = Trace(np.zeros(n), np.array(["p"] * n))
    one = np.array([[1.0, 0.0, 0.0]])
    prompts = PromptTable(np.array(["p"]), np.array([0.0]), one, one)
    setting = SimSetting(nodes=2, lookahead=2, drop_late=True)
    found = simulate(trace, prompts, profile_of(COSTS, 100.0), make("argus"), setting)
    assert found.finish_s.max() == pytest.approx(full_s(COSTS), rel=0.01)


def test_real_requests_are_judged_by_when_they_were_due() -> None:
    wanted = [Wanted(float(i), "p", i) for i in range(3)]
    half = picture(0)
    object.__setattr__(half, "level", "half")
    ended = [Ended(0.0, 1.0, half), Ended(1.2, 3.1, half), Ended(2.0, 2.1, None, "OverloadedError")]
    found = outcome_of(wanted, ended, slo_s=2.0)
    assert list(found.status) == [Status.ON_TIME, Status.LATE, Status.DROPPED]
    assert found.quality_of_all == pytest.approx(LEVELS["half"][1] / 3)
    pair = Pair(found, found, profile_of(COSTS, 2.0), (1.0, 1.2, 1.1))
    assert pair.drift == pytest.approx(1.2)
    both = Compared((pair, pair))
    assert (both.goodput_ratio, both.quality_gap, both.quality_error) == (1.0, 0.0, 0.0)
