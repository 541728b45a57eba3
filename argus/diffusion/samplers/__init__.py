"""Samplers, each as a builder of step-table lines from a grid of steps.

The schedule itself (time steps, sigmas, betas) is taken from diffusers' scheduler of the same
name; only the update is rewritten as coefficients. tests/parity holds every table against that
scheduler's own `step()`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)

from argus.diffusion.grid import Grid
from argus.diffusion.samplers.adams import lms, pndm
from argus.diffusion.samplers.alphas import ddim, ddpm, lcm
from argus.diffusion.samplers.dpm import dpmpp
from argus.diffusion.samplers.sigmas import euler, euler_ancestral, heun
from argus.diffusion.samplers.unipc import unipc
from argus.diffusion.tables import Line, WideLine

Settings = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def _as_configured(config: Mapping[str, Any]) -> Mapping[str, Any]:
    return {}


def _solver(algorithm: str, lowest: int, highest: int) -> Settings:
    """Return the settings of a DPM-Solver: the configured order, as far as the name allows."""

    def settings(config: Mapping[str, Any]) -> Mapping[str, Any]:
        order = min(max(config.get("solver_order", highest), lowest), highest)
        return {"algorithm_type": algorithm, "solver_order": order}

    return settings


def _predictor_corrector(config: Mapping[str, Any]) -> Mapping[str, Any]:
    order = min(config.get("solver_order", 2), 3)
    return {"predict_x0": True, "solver_p": None, "solver_order": order}


def _without_runge_kutta(config: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"skip_prk_steps": True}


@dataclass(frozen=True, slots=True)
class Sampler:
    """A sampler Argus can run.

    Attributes:
        name: what requests call it.
        scheduler: diffusers class whose `step()` it reproduces.
        lines: builder of the table's lines.
        settings: options of that class that the name itself decides, given a config. A folder's
            own scheduler is this sampler if it is of the class and has these options anyway.
        draws_noise: whether that class draws noise while it steps.
        noise_in_float32: whether it does so in float32 whatever the model's dtype.
        lines_with_eta: the same given eta, the share of fresh noise; None if it knows none.
    """

    name: str
    scheduler: type[Any]
    lines: Callable[[Grid], list[Line] | list[WideLine]]
    settings: Settings = _as_configured
    draws_noise: bool = False
    noise_in_float32: bool = False
    lines_with_eta: Callable[[Grid, float], list[Line]] | None = None


SAMPLERS: Mapping[str, Sampler] = {
    s.name: s
    for s in (
        Sampler("ddim", DDIMScheduler, ddim, lines_with_eta=ddim),
        Sampler("ddpm", DDPMScheduler, ddpm, draws_noise=True),
        Sampler("euler", EulerDiscreteScheduler, euler),
        Sampler("euler_a", EulerAncestralDiscreteScheduler, euler_ancestral, draws_noise=True),
        Sampler("heun", HeunDiscreteScheduler, heun),
        Sampler("lms", LMSDiscreteScheduler, lms),
        Sampler("pndm", PNDMScheduler, pndm, _without_runge_kutta),
        Sampler("dpmpp_2m", DPMSolverMultistepScheduler, dpmpp, _solver("dpmsolver++", 1, 2)),
        Sampler("dpmpp_3m", DPMSolverMultistepScheduler, dpmpp, _solver("dpmsolver++", 3, 3)),
        Sampler(
            "dpmpp_2m_sde",
            DPMSolverMultistepScheduler,
            dpmpp,
            _solver("sde-dpmsolver++", 1, 2),
            draws_noise=True,
            noise_in_float32=True,
        ),
        Sampler("unipc", UniPCMultistepScheduler, unipc, _predictor_corrector),
        Sampler("lcm", LCMScheduler, lcm, draws_noise=True),
    )
}
