"""Every step table against the `step()` of the diffusers scheduler it reproduces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from step_difference import BASE, PREDICTIONS, cases, follow

from argus.diffusion.samplers import SAMPLERS
from argus.diffusion.schedules import build_table, default_sampler, make_scheduler
from argus.diffusion.tables import CLEAN
from argus.errors import InvalidArgumentError, ModelError
from argus.types import forwards


def bound(sampler: str, spacing: str, steps: int) -> float:
    # Two steps end at sigma 0.03 or 0.04. Heun's second slope divides by it, and float32 rounding
    # of latents near 30 is magnified in both; one linspace step comes there from sigma 14.6.
    if sampler == "heun" and steps == 2:
        return 2e-3 if spacing == "linspace" else 2e-5
    return 1e-5


@pytest.mark.parametrize(("sampler", "prediction", "spacing", "steps"), list(cases()))
def test_table_equals_diffusers_step(
    sampler: str, prediction: str, spacing: str, steps: int
) -> None:
    config = BASE | {"prediction_type": prediction, "timestep_spacing": spacing}
    assert follow(sampler, config, steps) <= bound(sampler, spacing, steps)


BETWEEN = {"lower_order_final": False, "final_sigmas_type": "sigma_min"}


@pytest.mark.parametrize(
    ("sampler", "extra"),
    [
        ("euler", {"use_karras_sigmas": True}),
        ("euler", {"interpolation_type": "log_linear"}),
        ("euler", {"final_sigmas_type": "sigma_min"}),
        ("lms", {"use_karras_sigmas": True}),
        ("pndm", {"set_alpha_to_one": True}),
        ("pndm", {"steps_offset": 0}),
        ("dpmpp_2m", {"use_karras_sigmas": True}),
        ("dpmpp_2m", {"use_lu_lambdas": True}),
        ("dpmpp_2m", {"final_sigmas_type": "sigma_min"}),
        ("dpmpp_2m", {"solver_type": "heun"}),
        ("dpmpp_2m", {"solver_order": 1}),
        ("dpmpp_2m", {"euler_at_final": True}),
        ("dpmpp_3m", {"use_karras_sigmas": True}),
        ("dpmpp_3m", {"euler_at_final": True}),
        ("dpmpp_3m", BETWEEN),
        ("dpmpp_2m_sde", {"use_karras_sigmas": True}),
        ("dpmpp_2m_sde", {"solver_type": "heun"}),
        ("dpmpp_2m_sde", {"final_sigmas_type": "sigma_min", "solver_order": 1}),
        ("unipc", {"use_karras_sigmas": True}),
        ("unipc", {"solver_order": 1}),
        ("unipc", {"solver_order": 3}),
        ("unipc", {"solver_type": "bh1", "final_sigmas_type": "sigma_min"}),
        ("unipc", {"disable_corrector": [0, 1, 5]}),
        ("unipc", {"solver_order": 3, **BETWEEN}),
        ("unipc", {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}),
        ("euler_a", {"timestep_spacing": "trailing"}),
        ("heun", {"use_karras_sigmas": True}),
        ("ddpm", {"variance_type": "fixed_large"}),
        ("ddim", {"set_alpha_to_one": True}),
        ("ddim", {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}),
    ],
)
def test_table_follows_the_scheduler_options(sampler: str, extra: dict[str, Any]) -> None:
    config = BASE | {"prediction_type": "v_prediction"} | extra
    # Differences of third order are where float32 rounds most: 1.05e-5 on some processors.
    bound = 2e-5 if extra.get("solver_order") == 3 else 1e-5
    assert follow(sampler, config, 12) <= bound
    assert follow(sampler, config, 25) <= bound


@pytest.mark.parametrize("eta", [0.3, 1.0])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_ddim_with_eta_equals_diffusers_step(prediction: str, eta: float) -> None:
    for spacing, steps in (("leading", 10), ("linspace", 10), ("trailing", 2)):
        config = BASE | {"prediction_type": prediction, "timestep_spacing": spacing}
        assert follow("ddim", config, steps, eta) <= 1e-5


def test_noise_is_drawn_for_ddim_only_when_eta_asks_for_it() -> None:
    assert not build_table("ddim", BASE, 20).draws_noise
    noisy = build_table("ddim", BASE, 20, eta=0.5)
    assert noisy.draws_noise
    assert not noisy.noise_in_float32
    assert build_table("dpmpp_2m_sde", BASE, 20).noise_in_float32


def test_an_eta_that_means_nothing_is_refused_by_field() -> None:
    for eta in (-0.1, 1.1, float("nan")):
        with pytest.raises(InvalidArgumentError, match="eta: must be from 0 to 1"):
            build_table("ddim", BASE, 20, eta=eta)
    for sampler in SAMPLERS.keys() - {"ddim"}:
        with pytest.raises(InvalidArgumentError, match=f"eta: must be 0 with sampler {sampler}"):
            build_table(sampler, BASE, 20, eta=0.5)


def test_predicted_clean_latent_is_the_true_one_for_a_perfect_model() -> None:
    for sampler in set(SAMPLERS) - {"lcm"}:  # whose m is the consistency model's output
        config = BASE | {"prediction_type": "epsilon"}
        table = build_table(sampler, config, 20)
        scheduler = make_scheduler(sampler, config)
        scheduler.set_timesteps(20)
        clean, noise = torch.randn(1, 4, 4, 4), torch.randn(1, 4, 4, 4)
        for line, t in zip(table.updates[:, CLEAN], scheduler.timesteps, strict=True):
            x = scheduler.add_noise(clean, noise, t[None])
            p, *rest, r, _ = (float(v) for v in line)
            if any(rest):
                continue  # starts from between two steps
            torch.testing.assert_close(p * x + r * noise, clean, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("kind", "options", "sampler"),
    [
        ("DDIMScheduler", {}, "ddim"),
        ("PNDMScheduler", {"skip_prk_steps": True}, "pndm"),
        ("PNDMScheduler", {"skip_prk_steps": False}, "ddim"),
        ("UniPCMultistepScheduler", {}, "unipc"),
        ("UniPCMultistepScheduler", {"solver_order": 3}, "unipc"),
        ("UniPCMultistepScheduler", {"predict_x0": False}, "ddim"),
        ("DPMSolverMultistepScheduler", {}, "dpmpp_2m"),
        ("DPMSolverMultistepScheduler", {"solver_order": 1}, "dpmpp_2m"),
        ("DPMSolverMultistepScheduler", {"solver_order": 3}, "dpmpp_3m"),
        ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}, "dpmpp_2m_sde"),
        (
            "DPMSolverMultistepScheduler",
            {"algorithm_type": "sde-dpmsolver++", "solver_order": 3},
            "ddim",
        ),
        ("LMSDiscreteScheduler", {}, "lms"),
        ("DEISMultistepScheduler", {}, "ddim"),
    ],
)
def test_a_folder_runs_its_own_scheduler_where_that_is_served(
    kind: str, options: dict[str, Any], sampler: str, caplog: pytest.LogCaptureFixture
) -> None:
    substituted = sampler == "ddim" and kind != "DDIMScheduler"
    assert default_sampler(BASE | options | {"_class_name": kind}) == sampler
    assert (f"own scheduler, {kind}, is not served" in caplog.text) is substituted


def test_unknown_sampler_and_impossible_steps_name_the_field() -> None:
    with pytest.raises(InvalidArgumentError, match=r"sampler: must be one of ddim, ddpm, euler"):
        build_table("magic", BASE, 20)
    for steps in (0, 1001):
        with pytest.raises(InvalidArgumentError, match=r"steps: must be 1 to 1000"):
            build_table("ddim", BASE, steps)
    # diffusers' rounding adds a 62nd point there, before the first training step
    with pytest.raises(InvalidArgumentError, match=r"steps: 61 cannot be had"):
        build_table("ddim", BASE | {"timestep_spacing": "trailing"}, 61)


@pytest.mark.parametrize(
    ("sampler", "extra"),
    [
        ("ddim", {"clip_sample": True}),
        ("ddim", {"thresholding": True}),
        ("ddim", {"prediction_type": "dream"}),
        ("pndm", {"prediction_type": "sample"}),
        ("ddpm", {"variance_type": "learned"}),
        ("dpmpp_2m", {"use_flow_sigmas": True}),
        ("unipc", {"lower_order_final": False}),
    ],
)
def test_schedules_that_are_not_linear_or_not_finite_are_refused(
    sampler: str, extra: dict[str, Any]
) -> None:
    with pytest.raises(ModelError, match="scheduler config"):
        build_table(sampler, BASE | extra, 20)


def test_ends_that_diffusers_cannot_compute_are_finite_here() -> None:
    # Both are 0 times infinity or the root of a rounding error below 0 in diffusers' float32.
    bh1 = build_table("unipc", BASE | {"solver_type": "bh1"}, 20)
    assert bh1.updates[-1, 0].tolist() == bh1.updates[-1, CLEAN].tolist()
    zero_snr = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    config = BASE | zero_snr | {"prediction_type": "v_prediction"}
    first = build_table("ddim", config, 10, eta=1.0).updates[0, 0]
    # Nothing is left of noise that is drawn anew: only x0 = -e and the fresh noise are.
    assert first[:2].tolist() == [0.0, 0.0]


def test_schedules_that_tell_the_model_one_time_twice_are_served() -> None:
    table = build_table("dpmpp_2m", BASE | {"use_karras_sigmas": True}, 600)
    assert table.forwards == 600 > len(set(table.timesteps.tolist()))
    assert follow("dpmpp_2m", BASE | {"use_karras_sigmas": True}, 600) <= 1e-5


def test_tables_hold_finite_float64() -> None:
    table = build_table("dpmpp_2m", BASE, 50)
    for part in (table.timesteps, table.inputs, table.updates):
        assert part.dtype == np.float64
    assert table.forwards == 50


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_forwards_are_counted_without_a_table_as_with_one(sampler: str) -> None:
    for steps in (1, 2, 3, 20):
        assert build_table(sampler, BASE, steps).forwards == forwards(sampler, steps)
    kept = (0, 1, 5, 6, 19)
    assert build_table(sampler, BASE, 20, kept=kept).forwards == forwards(sampler, 20, 15)
