"""Samplers whose steps go between training time steps: DDIM, DDPM and LCM.

Latents are x = alpha x0 + sigma noise with alpha² + sigma² = 1.
"""

from __future__ import annotations

import math

from argus.diffusion.grid import Grid
from argus.diffusion.samplers.parameters import unit_noise, unit_x0
from argus.diffusion.tables import Line


def arrivals(grid: Grid) -> list[int]:
    """Return the training time step at which each kept step arrives; below 0 past the first.

    diffusers' DDIM and PNDM subtract a fixed jump, which with some spacings is not quite where
    the next step starts. That is kept where the next step follows at once.
    """
    jump = grid.scheduler.config.num_train_timesteps // grid.total
    last = len(grid.kept) - 1
    ends: list[int] = []
    for i, t in enumerate(grid.times):
        if i == last:
            ends.append(int(grid.last_time) - jump)
        else:
            ends.append(int(t) - jump if grid.adjacent(i) else int(grid.times[i + 1]))
    return ends


def ddim(grid: Grid, eta: float = 0.0) -> list[Line]:
    """Song et al. 2020 (arXiv 2010.02502), formulas 12 and 16."""
    scheduler = grid.scheduler
    prediction = scheduler.config.prediction_type
    alphas = scheduler.alphas_cumprod.double().tolist()
    final = float(scheduler.final_alpha_cumprod)
    lines: list[Line] = []
    for t, step, end in zip(grid.times, grid.kept, arrivals(grid), strict=True):
        here, there = alphas[int(t)], alphas[end] if end >= 0 else final
        alpha, sigma = math.sqrt(here), math.sqrt(1.0 - here)
        d = eta * math.sqrt((1.0 - there) / (1.0 - here) * (1.0 - here / there))
        # With eta 1 and no signal at all the difference is zero but for rounding.
        rest = math.sqrt(max(0.0, 1.0 - there - d * d))
        p, r = unit_x0(prediction, alpha, sigma)
        noise_x, noise_e = unit_noise(prediction, alpha, sigma)
        a = math.sqrt(there) * p + rest * noise_x
        b = math.sqrt(there) * r + rest * noise_e
        lines.append(Line(t, step, a=a, b=b, d=d, p=p, r=r))
    return lines


def ddpm(grid: Grid) -> list[Line]:
    """Ho et al. 2020 (arXiv 2006.11239), formula 7."""
    config = grid.scheduler.config
    alphas = grid.scheduler.alphas_cumprod.double().tolist()
    lines: list[Line] = []
    for i, (t, step) in enumerate(zip(grid.times, grid.kept, strict=True)):
        last = i + 1 == len(grid.kept)
        whole, before = alphas[t], 1.0 if last else alphas[grid.times[i + 1]]
        here = whole / before
        p, r = unit_x0(config.prediction_type, math.sqrt(whole), math.sqrt(1.0 - whole))
        of_x0 = math.sqrt(before) * (1.0 - here) / (1.0 - whole)
        of_x = math.sqrt(here) * (1.0 - before) / (1.0 - whole)
        variance = 1.0 - here
        if config.variance_type == "fixed_small":
            variance *= (1.0 - before) / (1.0 - whole)
        # A jump to the end over steps left out must not end in noise.
        silent = t == 0 or (last and not grid.adjacent(i))
        d = 0.0 if silent else math.sqrt(max(variance, 1e-20))
        lines.append(Line(t, step, a=of_x0 * p + of_x, b=of_x0 * r, d=d, p=p, r=r))
    return lines


def lcm(grid: Grid) -> list[Line]:
    """Latent consistency sampling (Luo et al. 2023, arXiv 2310.04378)."""
    config = grid.scheduler.config
    alphas = grid.scheduler.alphas_cumprod.double().tolist()
    data_sigma = 0.5
    lines: list[Line] = []
    for i, (t, step) in enumerate(zip(grid.times, grid.kept, strict=True)):
        scaled = t * config.timestep_scaling
        norm = scaled**2 + data_sigma**2
        skip, out = data_sigma**2 / norm, scaled / math.sqrt(norm)
        p, r = unit_x0(config.prediction_type, math.sqrt(alphas[t]), math.sqrt(1.0 - alphas[t]))
        p, r = out * p + skip, out * r
        keep, d = 1.0, 0.0
        if i + 1 < len(grid.kept):
            after = alphas[grid.times[i + 1]]
            keep, d = math.sqrt(after), math.sqrt(1.0 - after)
        lines.append(Line(t, step, a=keep * p, b=keep * r, d=d, p=p, r=r))
    return lines
