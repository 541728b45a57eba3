"""Samplers, each as a builder of step-table lines from a diffusers scheduler.

The schedule itself (time steps, sigmas, betas) is taken from diffusers' scheduler of the same
name; only the update is rewritten as coefficients. tests/parity holds every table against that
scheduler's own `step()`.
"""

from __future__ import annotations

import math
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
)

from argus.diffusion.tables import Line


@dataclass(frozen=True, slots=True)
class Sampler:
    """A sampler Argus can run.

    Attributes:
        name: what requests call it.
        scheduler: diffusers class whose `step()` it reproduces.
        lines: builder of the table's lines from a scheduler whose time steps are set.
        draws_noise: whether that class draws noise while it steps.
    """

    name: str
    scheduler: type[Any]
    lines: Callable[[Any], list[Line]]
    draws_noise: bool = False


def _unit_x0(prediction: str, alpha: float, sigma: float) -> tuple[float, float]:
    """Return (p, r) of x0 = p x + r e where x = alpha x0 + sigma noise and alpha²+sigma² = 1."""
    if prediction == "epsilon":
        return 1.0 / alpha, -sigma / alpha
    if prediction == "v_prediction":
        return alpha, -sigma
    return 0.0, 1.0  # "sample"


def _sigma_x0(prediction: str, sigma: float) -> tuple[float, float]:
    """Return (p, r) of x0 = p x + r e where x = x0 + sigma noise."""
    if prediction == "epsilon":
        return 1.0, -sigma
    if prediction == "v_prediction":
        return 1.0 / (sigma * sigma + 1.0), -sigma / math.sqrt(sigma * sigma + 1.0)
    return 0.0, 1.0


def _scale_in(sigma: float) -> float:
    """Return what the model's input is multiplied by where x = x0 + sigma noise."""
    return 1.0 / math.sqrt(sigma * sigma + 1.0)


def _ddim(scheduler: Any) -> list[Line]:
    """Song et al. 2020 (arXiv 2010.02502), formula 12 with eta 0."""
    config = scheduler.config
    alphas = scheduler.alphas_cumprod.double().numpy()
    jump = config.num_train_timesteps // len(scheduler.timesteps)
    lines: list[Line] = []
    for i, t in enumerate(scheduler.timesteps.tolist()):
        before = alphas[t - jump] if t >= jump else float(scheduler.final_alpha_cumprod)
        alpha, sigma = math.sqrt(alphas[t]), math.sqrt(1.0 - alphas[t])
        alpha_next, sigma_next = math.sqrt(before), math.sqrt(1.0 - before)
        p, r = _unit_x0(config.prediction_type, alpha, sigma)
        # noise = (x - alpha x0) / sigma, in terms of x and e without dividing by a small sigma
        if config.prediction_type == "epsilon":
            noise_x, noise_e = 0.0, 1.0
        elif config.prediction_type == "v_prediction":
            noise_x, noise_e = sigma, alpha
        else:
            noise_x, noise_e = 1.0 / sigma, -alpha / sigma
        a = alpha_next * p + sigma_next * noise_x
        b = alpha_next * r + sigma_next * noise_e
        lines.append(Line(t, i, a=a, b=b, p=p, r=r))
    return lines


def _ddpm(scheduler: Any) -> list[Line]:
    """Ho et al. 2020 (arXiv 2006.11239), formula 7."""
    config = scheduler.config
    alphas = scheduler.alphas_cumprod.double().numpy()
    lines: list[Line] = []
    for i, t in enumerate(scheduler.timesteps.tolist()):
        previous = int(scheduler.previous_timestep(t))
        whole, before = float(alphas[t]), float(alphas[previous]) if previous >= 0 else 1.0
        here = whole / before
        p, r = _unit_x0(config.prediction_type, math.sqrt(whole), math.sqrt(1.0 - whole))
        of_x0 = math.sqrt(before) * (1.0 - here) / (1.0 - whole)
        of_x = math.sqrt(here) * (1.0 - before) / (1.0 - whole)
        variance = 1.0 - here
        if config.variance_type == "fixed_small":
            variance *= (1.0 - before) / (1.0 - whole)
        d = math.sqrt(max(variance, 1e-20)) if t > 0 else 0.0
        lines.append(Line(t, i, a=of_x0 * p + of_x, b=of_x0 * r, d=d, p=p, r=r))
    return lines


def _euler(scheduler: Any) -> list[Line]:
    """Karras et al. 2022 (arXiv 2206.00364), algorithm 2 without churn; x = x0 + sigma noise."""
    sigmas = scheduler.sigmas.double().tolist()
    lines: list[Line] = []
    for i, t in enumerate(scheduler.timesteps.tolist()):
        sigma = sigmas[i]
        p, r = _sigma_x0(scheduler.config.prediction_type, sigma)
        slope = (sigmas[i + 1] - sigma) / sigma
        a = 1.0 + slope * (1.0 - p)
        lines.append(Line(t, i, in_x=_scale_in(sigma), a=a, b=-slope * r, p=p, r=r))
    return lines


def _euler_ancestral(scheduler: Any) -> list[Line]:
    """Euler with part of the noise drawn anew at each step (k-diffusion, Crowson 2022)."""
    sigmas = scheduler.sigmas.double().tolist()
    lines: list[Line] = []
    for i, t in enumerate(scheduler.timesteps.tolist()):
        sigma, after = sigmas[i], sigmas[i + 1]
        p, r = _sigma_x0(scheduler.config.prediction_type, sigma)
        up = math.sqrt(after**2 * (sigma**2 - after**2)) / sigma
        slope = (math.sqrt(after**2 - up**2) - sigma) / sigma
        a = 1.0 + slope * (1.0 - p)
        lines.append(Line(t, i, in_x=_scale_in(sigma), a=a, b=-slope * r, d=up, p=p, r=r))
    return lines


def _heun(scheduler: Any) -> list[Line]:
    """Karras et al. 2022, algorithm 1 without churn: two forwards a step but for the last.

    The first forward leaves the latents where they are. The second looks from
    x1 = k x + (1 - k) m with k = after / sigma, which is the Euler step from x toward m.
    """
    prediction = scheduler.config.prediction_type
    sigmas, times = scheduler.sigmas.double().tolist(), scheduler.timesteps.tolist()
    lines: list[Line] = []
    # diffusers repeats every sigma but the first, once for each forward made at it.
    for i in range(0, len(times), 2):
        sigma, after = sigmas[i], sigmas[i + 1]
        k = after / sigma
        p, r = _sigma_x0(prediction, sigma)
        in_x = _scale_in(sigma)
        if i + 1 == len(times):
            lines.append(
                Line(times[i], i // 2, in_x=in_x, a=k + (1 - k) * p, b=(1 - k) * r, p=p, r=r)
            )
            break
        lines.append(Line(times[i], i // 2, in_x=in_x, a=1.0, b=0.0, p=p, r=r))
        p, r = _sigma_x0(prediction, after)
        # slopes: (x - m) / sigma, then (x1 - p x1 - r e) / after
        half, rest, scale = 0.5 * (after - sigma), (1.0 - p) / after, _scale_in(after)
        lines.append(
            Line(
                times[i + 1],
                i // 2,
                in_x=scale * k,
                in_m=scale * (1.0 - k),
                a=1.0 + half * (1.0 / sigma + rest * k),
                b=-half * r / after,
                c=half * (rest * (1.0 - k) - 1.0 / sigma),
                p=p * k,
                q=p * (1.0 - k),
                r=r,
            )
        )
    return lines


def _dpmpp_2m(scheduler: Any) -> list[Line]:
    """DPM-Solver++ of order 2, multistep (Lu et al. 2022, arXiv 2211.01095)."""
    config = scheduler.config
    sigmas = scheduler.sigmas.double().tolist()
    steps = len(scheduler.timesteps)

    def point(i: int) -> tuple[float, float, float]:
        sigma = sigmas[i]
        alpha = _scale_in(sigma)
        return alpha, alpha * sigma, -math.log(sigma) if sigma > 0 else math.inf

    lines: list[Line] = []
    for i, t in enumerate(scheduler.timesteps.tolist()):
        (alpha, sigma, lam), (alpha_next, sigma_next, lam_next) = point(i), point(i + 1)
        p, r = _unit_x0(config.prediction_type, alpha, sigma)
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
        lines.append(Line(t, i, a=a, b=m_now * r, c=m_before, p=p, r=r))
    return lines


def _lcm(scheduler: Any) -> list[Line]:
    """Latent consistency sampling (Luo et al. 2023, arXiv 2310.04378)."""
    config = scheduler.config
    alphas = scheduler.alphas_cumprod.double().numpy()
    times = scheduler.timesteps.tolist()
    data_sigma = 0.5
    lines: list[Line] = []
    for i, t in enumerate(times):
        scaled = t * config.timestep_scaling
        norm = scaled**2 + data_sigma**2
        skip, out = data_sigma**2 / norm, scaled / math.sqrt(norm)
        p, r = _unit_x0(config.prediction_type, math.sqrt(alphas[t]), math.sqrt(1.0 - alphas[t]))
        p, r = out * p + skip, out * r
        if i + 1 < len(times):
            after = float(alphas[times[i + 1]])
            keep, d = math.sqrt(after), math.sqrt(1.0 - after)
        else:
            keep, d = 1.0, 0.0
        lines.append(Line(t, i, a=keep * p, b=keep * r, d=d, p=p, r=r))
    return lines


SAMPLERS: Mapping[str, Sampler] = {
    s.name: s
    for s in (
        Sampler("ddim", DDIMScheduler, _ddim),
        Sampler("ddpm", DDPMScheduler, _ddpm, draws_noise=True),
        Sampler("euler", EulerDiscreteScheduler, _euler),
        Sampler("euler_a", EulerAncestralDiscreteScheduler, _euler_ancestral, draws_noise=True),
        Sampler("heun", HeunDiscreteScheduler, _heun),
        Sampler("dpmpp_2m", DPMSolverMultistepScheduler, _dpmpp_2m),
        Sampler("lcm", LCMScheduler, _lcm, draws_noise=True),
    )
}
