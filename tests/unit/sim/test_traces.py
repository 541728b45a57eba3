"""Shapes of demand, and traces in the forms in which others publish them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from argus.errors import ConfigError, InvalidArgumentError, NotFoundError
from argus.sim.logs import drawn_trace, read_trace, rescaled
from argus.sim.published import modelled_prompts, published_profile
from argus.sim.shapes import SHAPES, draw_arrivals
from argus.sim.types import Trace

PROMPTS = modelled_prompts(published_profile(), 40, seed=1)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_brings_the_load_that_was_asked_for(shape: str) -> None:
    times = draw_arrivals(shape, 5.0, 7200, seed=3)
    assert len(times) == pytest.approx(36_000, abs=4 * math.sqrt(36_000))
    assert (np.diff(times) >= 0).all()
    assert times[0] >= 0
    assert times[-1] <= 7200
    assert times.tolist() == draw_arrivals(shape, 5.0, 7200, seed=3).tolist()
    assert times.tolist() != draw_arrivals(shape, 5.0, 7200, seed=4).tolist()


def per_minute(times: np.ndarray) -> np.ndarray:
    return np.bincount((times / 60).astype(int))


def test_poisson_counts_vary_as_much_as_their_mean_and_azure_counts_far_more() -> None:
    poisson = per_minute(draw_arrivals("poisson", 2.0, 36_000, seed=1))
    assert poisson.var() / poisson.mean() == pytest.approx(1.0, abs=0.25)
    azure = per_minute(draw_arrivals("azure", 2.0, 36_000, seed=1))
    assert azure.var() / azure.mean() > 5


def test_the_bursty_shape_has_the_published_plateaus() -> None:
    # At its own rate: 50 a minute between two plateaus of 390 for 110 of 840 minutes.
    area = 50 * (840 - 2 * 170) + 4 * 30 * 220 + 2 * 110 * 390
    counts = per_minute(draw_arrivals("bursty", area / 840 / 60, 840 * 60, seed=1))
    assert counts[:160].mean() == pytest.approx(50, rel=0.05)
    assert counts[200:300].mean() == pytest.approx(390, rel=0.02)
    assert counts[540:640].mean() == pytest.approx(390, rel=0.02)
    assert counts[182] == pytest.approx(220, rel=0.3)


def test_one_burst_goes_just_beyond_twice_the_mean() -> None:
    counts = per_minute(draw_arrivals("burst", 2.0, 840 * 60, seed=1)) / 120
    assert counts[370:470].mean() == pytest.approx(2.15, rel=0.02)
    assert counts[:330].mean() == pytest.approx(2.15 / 2.8, rel=0.02)


def test_the_step_is_five_times_the_demand_within_a_second() -> None:
    times = draw_arrivals("step", 10.0, 3000, seed=1)
    counts = np.bincount(times.astype(int), minlength=3000)
    before, after = counts[:1000].mean(), counts[1000:2000].mean()
    assert after / before == pytest.approx(5, rel=0.05)


def test_markov_demand_knows_two_rates() -> None:
    counts = per_minute(draw_arrivals("markov", 20.0, 200_000, seed=1))
    calm = np.median(counts)
    assert np.quantile(counts, 0.99) == pytest.approx(4 * calm, rel=0.15)


def test_an_unknown_shape_and_no_demand_are_refused() -> None:
    with pytest.raises(NotFoundError, match="did you mean 'poisson'"):
        draw_arrivals("poison", 1.0, 60, 0)
    with pytest.raises(InvalidArgumentError, match="rate"):
        draw_arrivals("poisson", 0.0, 60, 0)


def test_drawn_prompts_are_those_of_the_table() -> None:
    trace = drawn_trace("poisson", 10.0, 600, PROMPTS, seed=1)
    assert set(trace.prompt_id.tolist()) == set(PROMPTS.ids.tolist())


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "log.csv"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_our_own_form_is_read(file: Callable[[str], Path]) -> None:
    trace = read_trace(file("arrival_s,prompt_id\n1,3\n2,3\n"), PROMPTS, 0)
    assert trace.arrival_s.tolist() == [1.0, 2.0]


def test_azure_invocation_counts_are_summed_and_spread_within_their_minutes(
    file: Callable[[str], Path],
) -> None:
    text = "HashOwner,HashApp,HashFunction,Trigger,1,2,3\no,a,f,http,2,0,3\no,a,g,timer,1,0,4\n"
    trace = read_trace(file(text), PROMPTS, 0)
    assert len(trace) == 10
    assert trace.arrival_s[0] == 0
    gap = trace.arrival_s[3] - trace.arrival_s[2]
    assert gap > 60, "nothing came in the second minute"
    assert set(trace.prompt_id.tolist()) <= set(PROMPTS.ids.tolist())


def test_alibabas_request_log_is_read(file: Callable[[str], Path]) -> None:
    header = (
        "gmt_create,predict_type,predict_status,exec_time_seconds,groupId,prompt_length,"
        "negative_prompt_length,num_images_per_prompt,num_inference_steps,"
        "checkpoint_model_version_id,num_lora\n"
    )
    rows = (
        "2024-11-15 16:57:50,TXT_2_IMG,SUCCEED,32.0,G0000,63.0,26.0,1.0,30.0,M0000,0\n"
        "2024-11-15 18:16:14,TXT_2_IMG,SUCCEED,43.0,G0001,93.0,,1.0,40.0,M0001,0\n"
    )
    trace = read_trace(file(header + rows), PROMPTS, 0)
    assert trace.arrival_s[1] - trace.arrival_s[0] == pytest.approx(3600 + 18 * 60 + 24, abs=1)


def test_milliseconds_with_rows_of_prompts_are_read_and_sorted(
    file: Callable[[str], Path],
) -> None:
    trace = read_trace(file("# a comment\n19409.0,402\n19084.0,1678\n636,39,x\n"), PROMPTS, 0)
    assert trace.arrival_s.tolist() == [0.636, 19.084, 19.409]
    assert trace.prompt_id.tolist() == [str(39), str(1678 % 40), str(402 % 40)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time,what\n1,2\n", "log.csv:1: the columns arrival_s,prompt_id are needed"),
        ("HashOwner,HashApp,HashFunction,Trigger,1\no,a,f,http,x\n", ":2: 1: a number is needed"),
        ("HashOwner,HashApp,HashFunction,Trigger,1\no,a,f,http,-1\n", ":2: 1: must"),
        ("HashOwner,HashApp,HashFunction,Trigger,1\no,a,f,http,0\n", "holds no arrival"),
        ("gmt_create,x\nyesterday,1\n", ":2: gmt_create: a date and time is needed"),
        ("1.0,2\n3.0,-2\n", ":2: prompt: must be finite and from 0"),
        ("1.0\n", ":1: 2 columns are needed, not 1"),
    ],
)
def test_wrong_logs_are_named_with_file_and_line(
    file: Callable[[str], Path], text: str, message: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        read_trace(file(text), PROMPTS, 0)
    assert message in str(raised.value)


def test_a_trace_is_stretched_to_a_rate() -> None:
    trace = rescaled(Trace(np.array([3.0, 4.0, 7.0]), np.array(["a", "b", "c"])), rate=10.0)
    assert trace.span_s == pytest.approx(0.2)
    assert np.diff(trace.arrival_s) == pytest.approx([0.05, 0.15])
