"""Samplers, each as a builder of step tables from a diffusers scheduler config.

The schedule itself (time steps, sigmas, betas) is taken from diffusers' scheduler of the same
name; only the update is rewritten as coefficients. tests/parity holds every table against that
scheduler's own `step()`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler
from numpy.typing import NDArray

from argus.diffusion.tables import StepTable
from argus.errors import InvalidArgumentError, ModelError

Line = tuple[float, float, float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class Sampler:
    """A sampler Argus can run.

    Attributes:
        name: what requests call it.
        scheduler: diffusers class whose `step()` it reproduces.
        lines: builder of the table's lines from a scheduler whose time steps are set.
    """

    name: str
    scheduler: type[Any]
    lines: Callable[[Any], list[Line]]


def _x0_coefficients(prediction: str, alpha: float, sigma: float) -> tuple[float, float]:
    """Return (p, r) of x0 = p x + r e where x = alpha x0 + sigma noise and alpha²+sigma² = 1."""
    if prediction == "epsilon":
        return 1.0 / alpha, -sigma / alpha
    if prediction == "v_prediction":
        return alpha, -sigma
    return 0.0, 1.0  # "sample"


def _ddim_lines(scheduler: Any) -> list[Line]:
    """Song et al. 2020 (arXiv 2010.02502), formula 12 with eta 0."""
    config = scheduler.config
    alphas = scheduler.alphas_cumprod.double().numpy()
    jump = config.num_train_timesteps // len(scheduler.timesteps)
    lines: list[Line] = []
    for t in scheduler.timesteps.tolist():
        before = alphas[t - jump] if t >= jump else float(scheduler.final_alpha_cumprod)
        alpha, sigma = math.sqrt(alphas[t]), math.sqrt(1.0 - alphas[t])
        alpha_next, sigma_next = math.sqrt(before), math.sqrt(1.0 - before)
        p, r = _x0_coefficients(config.prediction_type, alpha, sigma)
        # noise = (x - alpha x0) / sigma, in terms of x and e without dividing by a small sigma
        if config.prediction_type == "epsilon":
            noise_x, noise_e = 0.0, 1.0
        elif config.prediction_type == "v_prediction":
            noise_x, noise_e = sigma, alpha
        else:
            noise_x, noise_e = 1.0 / sigma, -alpha / sigma
        a = alpha_next * p + sigma_next * noise_x
        b = alpha_next * r + sigma_next * noise_e
        lines.append((float(t), 1.0, a, b, 0.0, p, r))
    return lines


def _euler_lines(scheduler: Any) -> list[Line]:
    """Karras et al. 2022 (arXiv 2206.00364), algorithm 2 without churn; x = x0 + sigma noise."""
    prediction = scheduler.config.prediction_type
    sigmas = scheduler.sigmas.double().numpy()
    lines: list[Line] = []
    for i, t in enumerate(scheduler.timesteps.tolist()):
        sigma, after = float(sigmas[i]), float(sigmas[i + 1])
        norm = math.sqrt(sigma * sigma + 1.0)
        if prediction == "epsilon":
            p, r = 1.0, -sigma
        elif prediction == "v_prediction":
            p, r = 1.0 / (norm * norm), -sigma / norm
        else:
            p, r = 0.0, 1.0
        slope = (after - sigma) / sigma
        lines.append((float(t), 1.0 / norm, 1.0 + slope * (1.0 - p), -slope * r, 0.0, p, r))
    return lines


def _dpmpp_2m_lines(scheduler: Any) -> list[Line]:
    """DPM-Solver++ of order 2, multistep (Lu et al. 2022, arXiv 2211.01095)."""
    config = scheduler.config
    sigmas = scheduler.sigmas.double().numpy()
    steps = len(scheduler.timesteps)

    def point(i: int) -> tuple[float, float, float]:
        sigma = float(sigmas[i])
        alpha = 1.0 / math.sqrt(sigma * sigma + 1.0)
        log_snr = -math.log(sigma) if sigma > 0 else math.inf
        return alpha, alpha * sigma, log_snr

    lines: list[Line] = []
    for i, t in enumerate(scheduler.timesteps.tolist()):
        (alpha, sigma, lam), (alpha_next, sigma_next, lam_next) = point(i), point(i + 1)
        p, r = _x0_coefficients(config.prediction_type, alpha, sigma)
        h = lam_next - lam
        gain = -alpha_next * math.expm1(-h)
        last = i == steps - 1 and (
            config.euler_at_final
            or (config.lower_order_final and steps < 15)
            or config.final_sigmas_type == "zero"
        )
        m_now, m_before = gain, 0.0
        if i > 0 and not last and config.solver_order == 2:
            inverse_ratio = h / (lam - point(i - 1)[2])
            if config.solver_type == "midpoint":
                correction = 0.5 * gain
            else:
                correction = alpha_next * (math.expm1(-h) / h + 1.0)
            m_now += correction * inverse_ratio
            m_before = -correction * inverse_ratio
        a = sigma_next / sigma + m_now * p
        lines.append((float(t), 1.0, a, m_now * r, m_before, p, r))
    return lines


SAMPLERS: Mapping[str, Sampler] = {
    s.name: s
    for s in (
        Sampler("ddim", DDIMScheduler, _ddim_lines),
        Sampler("euler", EulerDiscreteScheduler, _euler_lines),
        Sampler("dpmpp_2m", DPMSolverMultistepScheduler, _dpmpp_2m_lines),
    )
}


def default_sampler(config: Mapping[str, Any]) -> str:
    """Return the sampler that a scheduler config asks for, or ddim where Argus has no such."""
    for sampler in SAMPLERS.values():
        if sampler.scheduler.__name__ == config.get("_class_name"):
            return sampler.name
    return "ddim"


def make_scheduler(sampler: str, config: Mapping[str, Any]) -> Any:
    """Return the diffusers scheduler that `sampler` reproduces, built as diffusers users do.

    Raises:
        InvalidArgumentError: no such sampler.
        ModelError: the config asks for something that is not linear in x and e.
    """
    if sampler not in SAMPLERS:
        raise InvalidArgumentError("sampler", f"must be one of {', '.join(SAMPLERS)}")
    kind = SAMPLERS[sampler].scheduler
    # A config written for another class may carry an algorithm this one does not know.
    scheduler = kind.from_config(dict(config))
    settings = scheduler.config
    if settings.get("thresholding") or settings.get("clip_sample"):
        raise ModelError(
            "scheduler config: clip_sample and thresholding are not linear; not served"
        )
    if settings.prediction_type not in {"epsilon", "v_prediction", "sample"}:
        raise ModelError(f"scheduler config: prediction_type {settings.prediction_type!r} unknown")
    if sampler == "dpmpp_2m":
        if settings.algorithm_type != "dpmsolver++" or settings.solver_order > 2:
            raise ModelError(
                "scheduler config: only algorithm_type dpmsolver++ of solver_order 1 or 2 is served"
            )
        if settings.final_sigmas_type not in {"zero", "sigma_min"}:
            raise ModelError(f"scheduler config: final_sigmas_type {settings.final_sigmas_type!r}")
    return scheduler


def build_table(sampler: str, config: Mapping[str, Any], steps: int) -> StepTable:
    """Return the table of `steps` steps of `sampler` under a diffusers scheduler config.

    Raises:
        InvalidArgumentError: no such sampler, or it cannot make that many steps.
        ModelError: the config asks for something that is not linear.
    """
    scheduler = make_scheduler(sampler, config)
    limit = scheduler.config.num_train_timesteps
    if not 1 <= steps <= limit:
        raise InvalidArgumentError("steps", f"must be 1 to {limit} for this variant, not {steps}")
    scheduler.set_timesteps(steps)
    if max(scheduler.timesteps.tolist()) >= limit:
        # "leading" spacing with an offset runs past the end; diffusers fails there too.
        raise InvalidArgumentError("steps", f"{steps} is too many for this variant's schedule")
    lines: NDArray[np.float64] = np.array(SAMPLERS[sampler].lines(scheduler), dtype=np.float64)
    return StepTable(sampler, lines, float(scheduler.init_noise_sigma))
