"""Runs that leave steps out: against diffusers continued or set by hand, and a perfect model."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from step_difference import BASE, difference

from argus.diffusion.flow import FLOW_SAMPLERS, build_flow_table
from argus.diffusion.grid import respace
from argus.diffusion.samplers import SAMPLERS
from argus.diffusion.schedules import build_table, make_scheduler
from argus.diffusion.tables import CLEAN, LATENTS, StepTable

Array = NDArray[np.float64]
FLOW: dict[str, Any] = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}
THINNED = (3, 4, 6, 9, 10, 13)
ENDS_AT_X0 = BASE | {"set_alpha_to_one": True}


def table_of(sampler: str, steps: int, kept: Sequence[int] | None) -> StepTable:
    if sampler in FLOW_SAMPLERS:
        return build_flow_table(sampler, FLOW, steps, 64, kept=kept)
    return build_table(sampler, ENDS_AT_X0, steps, kept=kept)


def march(
    table: StepTable, state: Array, model: Callable[[Array, Array, int], Array], seed: int = 0
) -> Iterator[Array]:
    """Yield the state before every line and at the end; e = model(seen, state, line)."""
    rng = np.random.default_rng(seed)
    for line, (inputs, updates) in enumerate(zip(table.inputs, table.updates, strict=True)):
        yield state
        e = model(inputs @ state, state, line)
        state = updates @ np.vstack([state, e, rng.normal(size=e.shape)])
    yield state


# LMS of diffusers takes its order from the index, though it has kept no slope yet, and PNDM makes
# its second look wherever it starts: neither can be continued from given latents.
CONTINUED = [s for s in SAMPLERS if s not in {"lms", "pndm"}]


@pytest.mark.parametrize(("steps", "skip"), [(12, 5), (20, 19), (25, 1)])
@pytest.mark.parametrize("sampler", CONTINUED)
def test_a_late_start_equals_diffusers_continued_from_there(
    sampler: str, steps: int, skip: int
) -> None:
    for extra in ({}, {"prediction_type": "v_prediction", "timestep_spacing": "linspace"}):
        scheduler = make_scheduler(sampler, BASE | extra)
        scheduler.set_timesteps(steps)
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(skip * scheduler.order)
        table = build_table(sampler, BASE | extra, steps, kept=range(skip, steps))
        assert table.steps[0] == skip
        assert table.initial_scale == pytest.approx(float(scheduler.init_noise_sigma))
        timesteps = scheduler.timesteps[skip * scheduler.order :]
        assert difference(table, scheduler, timesteps, seed=skip) <= 1e-5


# DDIM and PNDM of diffusers subtract a fixed jump, so no schedule can be set by hand.
BY_HAND = [s for s in SAMPLERS if s not in {"ddim", "pndm"}]


@pytest.mark.parametrize("kept", [THINNED, tuple(range(4, 20)), (0, 7)])
@pytest.mark.parametrize("sampler", BY_HAND)
def test_kept_steps_equal_diffusers_with_that_schedule_set_by_hand(
    sampler: str, kept: tuple[int, ...]
) -> None:
    for extra in ({}, {"prediction_type": "v_prediction"}):
        scheduler = make_scheduler(sampler, BASE | extra)
        scheduler.set_timesteps(20)
        looks = scheduler.order
        points = [k for i, k in enumerate(kept) for _ in range(looks if i else 1)]
        scheduler.timesteps = scheduler.timesteps[::looks][points]
        scheduler.num_inference_steps = len(kept)
        if hasattr(scheduler, "sigmas"):
            levels = scheduler.sigmas
            scheduler.sigmas = torch.cat([levels[::looks][points], levels[-1:]])
        table = build_table(sampler, BASE | extra, 20, kept=kept)
        assert tuple(dict.fromkeys(table.steps)) == kept
        assert difference(table, scheduler, scheduler.timesteps, seed=1) <= 1e-5


def perfect(table: StepTable, clean: Array) -> Callable[[Array, Array, int], Array]:
    """Return the model whose predicted clean latent is always `clean`."""

    def model(seen: Array, state: Array, line: int) -> Array:
        *known, r, _ = table.updates[line, CLEAN]
        return (clean - np.array(known) @ state) / r

    return model


@pytest.mark.parametrize("kept", [None, range(7, 20), THINNED, (19,), (0,)])
@pytest.mark.parametrize("sampler", [*(s for s in SAMPLERS if s != "lcm"), *FLOW_SAMPLERS])
def test_a_perfect_model_gives_its_picture_whichever_steps_are_kept(
    sampler: str, kept: Sequence[int] | None
) -> None:
    table = table_of(sampler, 20, kept)
    rng = np.random.default_rng(5)
    clean, state = rng.normal(size=9), rng.normal(size=(table.states, 9))
    *_, last = march(table, state, perfect(table, clean))
    np.testing.assert_allclose(last[CLEAN], clean, atol=1e-9)
    np.testing.assert_allclose(last[LATENTS], clean, atol=1e-8)


def test_noise_is_not_left_in_where_the_last_steps_are_left_out() -> None:
    config = BASE | {"variance_type": "fixed_large"}
    table = build_table("ddpm", config, 20, kept=(0, 5, 12))
    clean = np.arange(9.0)
    *_, last = march(table, np.ones((2, 9)), perfect(table, clean))
    np.testing.assert_allclose(last[LATENTS], clean, atol=1e-8)


@pytest.mark.parametrize("kept", [None, range(7, 20), THINNED])
def test_ddim_with_eta_one_is_ddpm_whichever_steps_are_kept(kept: Sequence[int] | None) -> None:
    ddim = build_table("ddim", ENDS_AT_X0, 20, kept=kept, eta=1.0)
    ddpm = build_table("ddpm", ENDS_AT_X0, 20, kept=kept)
    # ddpm keeps a noise of 1e-10 in its last step
    np.testing.assert_allclose(ddim.updates, ddpm.updates, atol=1e-9)


STEADY = [s for s in (*SAMPLERS, *FLOW_SAMPLERS) if not table_of(s, 20, None).draws_noise]


@pytest.mark.parametrize("sampler", STEADY)
def test_latents_of_a_perfect_model_do_not_depend_on_which_steps_came_before(sampler: str) -> None:
    clean, noise = np.random.default_rng(6).normal(size=(2, 9))
    before: list[dict[int, Array]] = []
    for kept in (None, (0, 2, 3, 7, 12, 13, 18)):
        table = table_of(sampler, 20, kept)
        start = np.zeros((table.states, 9))
        start[LATENTS] = table.initial_scale * noise
        states = march(table, start, perfect(table, clean))
        lines = zip(range(table.forwards), states, strict=False)
        before.append({table.steps[i]: s[LATENTS] for i, s in lines if table.starts_step(i)})
    every, some = before
    assert some.keys() < every.keys()
    for step, latents in some.items():
        np.testing.assert_allclose(latents, every[step], atol=1e-6)


@pytest.mark.parametrize("sampler", [*SAMPLERS, *FLOW_SAMPLERS])
def test_a_run_starts_from_its_latents_alone(sampler: str) -> None:
    table = table_of(sampler, 20, THINNED)
    state = np.random.default_rng(7).normal(size=(table.states, 9))
    other = np.vstack([state[:1], 100.0 * state[1:]])
    ends = [list(march(table, s, lambda seen, _, __: np.tanh(seen)))[-1] for s in (state, other)]
    np.testing.assert_array_equal(ends[0][LATENTS], ends[1][LATENTS])


def gaussian_error(sampler: str, steps: int, kept: Sequence[int], until: int) -> float:
    """Return how far a run is from the exact flow when it gets to time step `until`.

    The data are normal with variance 1/4, for which the model's output and the flow it stands for
    have a closed form: latents shrink as their standard deviation does.
    """
    config = BASE | {"steps_offset": 0}
    table = build_table(sampler, config, steps, kept=kept)
    alphas = make_scheduler(sampler, config).alphas_cumprod.double().numpy()
    times = table.timesteps.astype(int)
    spread = np.sqrt(0.25 * alphas + 1.0 - alphas)

    def model(seen: Array, state: Array, line: int) -> Array:
        t = times[line]
        return np.asarray(np.sqrt(1.0 - alphas[t]) / spread[t] ** 2 * seen)

    start = np.zeros((table.states, 1))
    start[LATENTS] = spread[times[0]]
    line = times.tolist().index(until)
    *_, state = itertools.islice(march(table, start, model), line + 1)
    return abs(float(state[LATENTS, 0]) - float(spread[until]))


@pytest.mark.parametrize("steps", [25, 50, 100])
def test_pndm_started_late_is_far_nearer_to_the_exact_flow_than_ddim(steps: int) -> None:
    kept = range(6 * steps // 25 - 1, steps)  # from time step 760 to 200
    error = gaussian_error("pndm", steps, kept, 200)
    assert 0.0 < error < 0.01 * gaussian_error("ddim", steps, kept, 200)


def test_pndm_over_uneven_steps_converges_with_order_two() -> None:
    errors = []
    for n in (50, 100, 200):
        first = 6 * n // 25 - 1
        uneven = [first + 4 * (j // 2) + j % 2 for j in range(n)]  # jumps of 1 and 3
        errors.append(gaussian_error("pndm", n, [k for k in uneven if k < n], 200))
    # Halving the steps would halve the error with the weights of even steps.
    assert errors[0] > 3.0 * errors[1] > 3.0 * 3.0 * errors[2]


def test_pndm_started_late_reaches_the_full_schedules_own_lines() -> None:
    full = build_table("pndm", BASE, 20)
    late = build_table("pndm", BASE, 20, kept=range(7, 20))
    # after three steps the order is 4 in both
    np.testing.assert_allclose(late.updates[3:], full.updates[11:], atol=1e-12)


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ((), "at least one"),
        ((3, 3), "ascend"),
        ((4, 2), "ascend"),
        ((-1, 2), "outside"),
        ((5, 20), "outside the schedule's 20 steps"),
    ],
)
def test_steps_that_a_schedule_does_not_have_are_a_programming_error(
    kept: tuple[int, ...], message: str
) -> None:
    for sampler in ("ddim", "flow_euler"):
        with pytest.raises(ValueError, match=f"kept: .*{message}"):
            table_of(sampler, 20, kept)


def test_respacing_keeps_the_first_step_and_spreads_the_rest_evenly() -> None:
    assert respace(range(10), 0, 4) == (0, 2, 5, 7)
    assert respace(range(50), 30, 20) == tuple(range(30, 50))
    assert respace((1, 4, 5, 9), 1, 1) == (4,)
    for remaining, fitting in itertools.product(range(1, 40), range(1, 45)):
        kept = respace(range(50 - remaining, 50), 0, fitting)
        assert kept[0] == 50 - remaining
        assert len(kept) == min(remaining, fitting)
        jumps = np.diff([*kept, 50])
        assert jumps.max() - jumps.min() <= 1


def test_respacing_counts_forwards_where_a_sampler_looks_twice() -> None:
    table = build_table("heun", BASE, 20)
    for position, left in ((0, 1), (0, 12), (10, 7), (22, 100)):
        kept = respace(table.steps, position, left, looks=2)
        assert kept[0] == table.steps[position]
        forwards = build_table("heun", BASE, 20, kept=kept).forwards
        assert left - 1 <= forwards <= left or kept == tuple(range(kept[0], 20))


@pytest.mark.parametrize(("position", "left"), [(-1, 3), (39, 3), (0, 0), (1, 3)])
def test_respacing_where_no_step_starts_is_a_programming_error(position: int, left: int) -> None:
    with pytest.raises(ValueError, match=r"cannot re-space|between two looks"):
        respace(build_table("heun", BASE, 20).steps, position, left, looks=2)
