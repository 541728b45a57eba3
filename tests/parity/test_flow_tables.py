"""The flow matching step tables against the `step()` of diffusers' scheduler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler
from step_difference import difference

from argus.diffusion.flow import FLOW_SAMPLERS, build_flow_table, default_flow_sampler
from argus.diffusion.samplers import SAMPLERS
from argus.diffusion.schedules import build_table
from argus.errors import InvalidArgumentError, ModelError
from argus.types import forwards

CONFIG: dict[str, Any] = {"_class_name": "FlowMatchEulerDiscreteScheduler"}
TOKENS = 1024
MU = 0.5 + (1.15 - 0.5) * (TOKENS - 256) / (4096 - 256)
"""Of that many image tokens, between the two ends that the scheduler's defaults name."""

OPTIONS: list[dict[str, Any]] = [
    {},
    {"shift": 3.0},
    {"use_dynamic_shifting": True},
    {"use_dynamic_shifting": True, "time_shift_type": "linear"},
    {"shift": 3.0, "shift_terminal": 0.1},
    {"shift": 3.0, "use_karras_sigmas": True},
    {"use_exponential_sigmas": True},
    {"use_beta_sigmas": True},
    {"num_train_timesteps": 500},
]
TABLES = [
    (options, steps)
    for options in OPTIONS
    for steps in (1, 2, 10, 28, 50)
    if steps > 1 or "shift_terminal" not in options  # which is refused, see below
]


@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize(("options", "steps"), TABLES)
def test_table_equals_diffusers_step(options: dict[str, Any], steps: int, even: bool) -> None:
    table = build_flow_table("flow_euler", CONFIG | options, steps, TOKENS, even_sigmas=even)
    scheduler = FlowMatchEulerDiscreteScheduler(**options)
    sigmas = [(steps - i) / steps for i in range(steps)] if even else None
    mu = MU if "use_dynamic_shifting" in options else None
    scheduler.set_timesteps(steps, sigmas=sigmas, mu=mu)
    generator = torch.Generator().manual_seed(steps)
    clean, noise = (torch.randn(1, 4, 8, 8, generator=generator) for _ in range(2))
    x = noise
    assert table.forwards == forwards("flow_euler", steps) == len(scheduler.timesteps)
    assert (table.initial_scale, table.draws_noise) == (1.0, False)
    for i, t in enumerate(scheduler.timesteps):
        assert table.timesteps[i] == pytest.approx(float(t), rel=1e-6)
        assert table.inputs[i].tolist() == [1.0, 0.0]
        (a, c, b, d), (p, q, r, _) = table.updates[i].tolist()
        assert (c, d, q) == (0.0, 0.0, 0.0)
        seen = scheduler.scale_noise(clean, t[None], noise) if i == 0 else x
        e = noise - clean + 0.1 * torch.randn(clean.shape, generator=generator)
        theirs = scheduler.step(e, t, seen).prev_sample
        torch.testing.assert_close(a * seen + b * e, theirs, atol=1e-5, rtol=0)
        sigma = float(scheduler.sigmas[i])
        exact = (1.0 - sigma) * clean + sigma * noise
        torch.testing.assert_close(p * exact + r * (noise - clean), clean, atol=1e-5, rtol=0)
        x = theirs


HEUN = CONFIG | {"_class_name": "FlowMatchHeunDiscreteScheduler"}


@pytest.mark.parametrize("options", [{}, {"shift": 3.0}, {"num_train_timesteps": 500}])
@pytest.mark.parametrize("steps", [1, 2, 10, 28])
def test_heun_table_equals_diffusers_step(options: dict[str, Any], steps: int) -> None:
    scheduler = FlowMatchHeunDiscreteScheduler(**options)
    for config in (CONFIG, HEUN):
        table = build_flow_table("flow_heun", config | options, steps, TOKENS)
        scheduler.set_timesteps(steps)
        assert table.forwards == forwards("flow_heun", steps)
        # With two steps the second slope is divided by a sigma of 0.001, in both.
        bound = 5e-5 if steps == 2 else 1e-5
        assert difference(table, scheduler, scheduler.timesteps, seed=steps) <= bound


@pytest.mark.parametrize("sampler", FLOW_SAMPLERS)
@pytest.mark.parametrize("kept", [range(5, 20), (3, 4, 6, 9, 10, 13)])
def test_kept_steps_equal_diffusers_with_those_sigmas(sampler: str, kept: Sequence[int]) -> None:
    options = {"use_dynamic_shifting": True}
    whole = FlowMatchEulerDiscreteScheduler(**options)
    whole.set_timesteps(20, mu=MU)
    scheduler: Any = whole if sampler == "flow_euler" else FlowMatchHeunDiscreteScheduler()
    looks = scheduler.order
    points = [k for i, k in enumerate(kept) for _ in range(looks if i else 1)]
    scheduler.timesteps = whole.timesteps[points]
    scheduler.sigmas = torch.cat([whole.sigmas[points], whole.sigmas[-1:]])
    scheduler.prev_derivative = scheduler.dt = None
    table = build_flow_table(sampler, CONFIG | options, 20, TOKENS, kept=kept)
    assert tuple(dict.fromkeys(table.steps)) == tuple(kept)
    assert difference(table, scheduler, scheduler.timesteps, seed=2) <= 1e-5


def test_a_folder_runs_its_own_scheduler() -> None:
    assert default_flow_sampler(CONFIG) == "flow_euler"
    assert default_flow_sampler(HEUN) == "flow_heun"


def test_eta_is_refused_by_field() -> None:
    for sampler in FLOW_SAMPLERS:
        with pytest.raises(InvalidArgumentError, match=f"eta: must be 0 with sampler {sampler}"):
            build_flow_table(sampler, CONFIG, 10, TOKENS, eta=0.5)


def test_samplers_of_the_other_kind_are_refused_by_name() -> None:
    for sampler in (*SAMPLERS, "magic"):
        with pytest.raises(InvalidArgumentError, match=r"sampler: must be one of flow_euler"):
            build_flow_table(sampler, CONFIG, 10, TOKENS)
    for sampler in FLOW_SAMPLERS:
        with pytest.raises(InvalidArgumentError, match=r"sampler: must be one of ddim, ddpm"):
            build_table(sampler, {}, 10)


def test_impossible_steps_name_the_field() -> None:
    for steps in (0, 1001):
        with pytest.raises(InvalidArgumentError, match=r"steps: must be 1 to 1000"):
            build_flow_table("flow_euler", CONFIG, steps, TOKENS)
    with pytest.raises(InvalidArgumentError, match=r"steps: 1 is too few"):
        build_flow_table("flow_euler", CONFIG | {"shift_terminal": 0.1}, 1, TOKENS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stochastic_sampling": True}, "stochastic_sampling is not served"),
        ({"invert_sigmas": True}, "invert_sigmas is not served"),
        ({"_class_name": "FlowMatchLCMScheduler"}, "is not served for flow matching"),
    ],
)
def test_schedules_outside_the_table_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build_flow_table("flow_euler", CONFIG | change, 10, TOKENS)
