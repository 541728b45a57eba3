"""Every step table against the `step()` of the diffusers scheduler it reproduces."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from argus.diffusion.samplers import SAMPLERS
from argus.diffusion.schedules import build_table, make_scheduler
from argus.diffusion.tables import CLEAN, LATENTS
from argus.errors import InvalidArgumentError, ModelError
from argus.types import forwards

BASE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
CASES = list(
    itertools.product(
        SAMPLERS,
        ("epsilon", "v_prediction", "sample"),
        ("leading", "trailing", "linspace"),
        (1, 2, 10, 20, 50),
    )
)


def combine(weights: Sequence[float], tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.stack([float(w) * t for w, t in zip(weights, tensors, strict=True)]).sum(0)


def follow(sampler: str, config: dict[str, Any], steps: int) -> float:
    """Return the largest difference over all steps, each taken from the same latents.

    The model's output is what a model that always sees the same clean image would say, plus a
    little noise, so that latents keep the size they have in use.
    """
    table = build_table(sampler, config, steps)
    scheduler = make_scheduler(sampler, config)
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(steps)
    clean = torch.randn(1, 4, 8, 8, generator=generator)
    x = torch.randn(1, 4, 8, 8, generator=generator) * scheduler.init_noise_sigma
    assert table.initial_scale == pytest.approx(float(scheduler.init_noise_sigma))
    state = [x] + [torch.zeros_like(x) for _ in range(table.states - 1)]
    noise, their_noise = (torch.Generator().manual_seed(3) for _ in range(2))
    worst = 0.0
    theirs = x
    for line, t in enumerate(scheduler.timesteps):
        assert table.timesteps[line] == pytest.approx(float(t))
        scaled = scheduler.scale_model_input(theirs, t)
        worst = max(worst, (scaled - combine(table.inputs[line], state)).abs().max().item())
        # e that predicts the clean image, kept bounded where r is tiny
        *of_state, r, _ = table.updates[line, CLEAN]
        e = (clean - combine(of_state, state)) / r if abs(r) > 0.05 else torch.zeros_like(x)
        e = e + 0.1 * torch.randn(1, 4, 8, 8, generator=generator)
        z = torch.randn(x.shape, generator=noise) if table.draws_noise else torch.zeros_like(x)
        state = [combine(row, [*state, e, z]) for row in table.updates[line]]
        extra = {"generator": their_noise} if table.draws_noise else {}
        theirs = scheduler.step(e, t, theirs, **extra).prev_sample
        if line + 1 == table.forwards or table.starts_step(line + 1):
            worst = max(worst, (state[LATENTS] - theirs).abs().max().item())
            state[LATENTS] = theirs
    return worst


UNKNOWN_TO_DIFFUSERS = {("euler_a", "sample")}
"""Pairs that the scheduler's own step() does not implement."""


@pytest.mark.parametrize(
    ("sampler", "prediction", "spacing", "steps"),
    [case for case in CASES if case[:2] not in UNKNOWN_TO_DIFFUSERS],
)
def test_table_equals_diffusers_step(
    sampler: str, prediction: str, spacing: str, steps: int
) -> None:
    config = BASE | {"prediction_type": prediction, "timestep_spacing": spacing}
    # Two linspace steps go from sigma 14.6 to 0.03 in one: Heun's second slope divides by the
    # latter, and float32 rounding of latents near 30 is magnified 500-fold, in both.
    bound = 2e-3 if (sampler, spacing, steps) == ("heun", "linspace", 2) else 1e-5
    assert follow(sampler, config, steps) <= bound


@pytest.mark.parametrize(
    ("sampler", "extra"),
    [
        ("euler", {"use_karras_sigmas": True}),
        ("dpmpp_2m", {"use_karras_sigmas": True}),
        ("dpmpp_2m", {"final_sigmas_type": "sigma_min"}),
        ("dpmpp_2m", {"solver_type": "heun"}),
        ("dpmpp_2m", {"solver_order": 1}),
        ("dpmpp_2m", {"euler_at_final": True}),
        ("euler_a", {"timestep_spacing": "trailing"}),
        ("heun", {"use_karras_sigmas": True}),
        ("ddpm", {"variance_type": "fixed_large"}),
        ("ddim", {"set_alpha_to_one": True}),
        ("ddim", {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}),
    ],
)
def test_table_follows_the_scheduler_options(sampler: str, extra: dict[str, Any]) -> None:
    config = BASE | {"prediction_type": "v_prediction"} | extra
    assert follow(sampler, config, 12) <= 1e-5
    assert follow(sampler, config, 25) <= 1e-5


def test_predicted_clean_latent_is_the_true_one_for_a_perfect_model() -> None:
    for sampler in set(SAMPLERS) - {"lcm"}:  # whose m is the consistency model's output
        config = BASE | {"prediction_type": "epsilon"}
        table = build_table(sampler, config, 20)
        scheduler = make_scheduler(sampler, config)
        scheduler.set_timesteps(20)
        clean, noise = torch.randn(1, 4, 4, 4), torch.randn(1, 4, 4, 4)
        for line, t in zip(table.updates[:, CLEAN], scheduler.timesteps, strict=True):
            x = scheduler.add_noise(clean, noise, t[None])
            p, q, r = (float(v) for v in line[:3])
            if q:
                continue  # starts from between two steps
            torch.testing.assert_close(p * x + r * noise, clean, atol=2e-3, rtol=1e-3)


def test_unknown_sampler_and_impossible_steps_name_the_field() -> None:
    with pytest.raises(InvalidArgumentError, match=r"sampler: must be one of ddim, ddpm, euler"):
        build_table("magic", BASE, 20)
    for steps in (0, 1001):
        with pytest.raises(InvalidArgumentError, match=r"steps: must be 1 to 1000"):
            build_table("ddim", BASE, steps)


@pytest.mark.parametrize(
    "extra",
    [{"clip_sample": True}, {"thresholding": True}, {"prediction_type": "dream"}],
)
def test_schedules_that_are_not_linear_are_refused(extra: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="scheduler config"):
        build_table("ddim", BASE | extra, 20)


def test_tables_hold_finite_float64() -> None:
    table = build_table("dpmpp_2m", BASE, 50)
    for part in (table.timesteps, table.inputs, table.updates):
        assert part.dtype == np.float64
    assert table.forwards == 50
    for sampler in SAMPLERS:
        assert build_table(sampler, BASE, 20).forwards == forwards(sampler, 20)
