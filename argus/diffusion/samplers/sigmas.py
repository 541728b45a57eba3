"""Samplers whose steps go between noise levels: Euler, Euler ancestral and Heun.

Latents are x = x0 + sigma noise, and scaled down for the model.
"""

from __future__ import annotations

import math

from argus.diffusion.grid import Grid
from argus.diffusion.samplers.parameters import scale_in, sigma_x0
from argus.diffusion.tables import Line


def euler(grid: Grid) -> list[Line]:
    """Karras et al. 2022 (arXiv 2206.00364), algorithm 2 without churn."""
    sigmas = grid.sigmas
    lines: list[Line] = []
    for i, (t, step) in enumerate(zip(grid.times, grid.kept, strict=True)):
        sigma, after = sigmas[i], sigmas[i + 1]
        p, r = sigma_x0(grid.scheduler.config.prediction_type, sigma)
        slope = (after - sigma) / sigma
        a = 1.0 + slope * (1.0 - p)
        lines.append(Line(t, step, in_x=scale_in(sigma), a=a, b=-slope * r, p=p, r=r))
    return lines


def euler_ancestral(grid: Grid) -> list[Line]:
    """Euler with part of the noise drawn anew at each step (k-diffusion, Crowson 2022)."""
    sigmas = grid.sigmas
    lines: list[Line] = []
    for i, (t, step) in enumerate(zip(grid.times, grid.kept, strict=True)):
        sigma, after = sigmas[i], sigmas[i + 1]
        p, r = sigma_x0(grid.scheduler.config.prediction_type, sigma)
        up = math.sqrt(after**2 * (sigma**2 - after**2)) / sigma
        slope = (math.sqrt(after**2 - up**2) - sigma) / sigma
        a = 1.0 + slope * (1.0 - p)
        lines.append(Line(t, step, in_x=scale_in(sigma), a=a, b=-slope * r, d=up, p=p, r=r))
    return lines


def heun(grid: Grid) -> list[Line]:
    """Karras et al. 2022, algorithm 1 without churn: two forwards a step but for the last.

    The first forward leaves the latents where they are. The second looks from
    x1 = k x + (1 - k) m with k = after / sigma, which is the Euler step from x toward m.
    """
    prediction = grid.scheduler.config.prediction_type
    sigmas = grid.sigmas
    lines: list[Line] = []
    for i, (t, step) in enumerate(zip(grid.times, grid.kept, strict=True)):
        sigma, after = sigmas[i], sigmas[i + 1]
        k = after / sigma
        p, r = sigma_x0(prediction, sigma)
        in_x = scale_in(sigma)
        if i + 1 == len(grid.kept):
            a, b = k + (1.0 - k) * p, (1.0 - k) * r
            lines.append(Line(t, step, in_x=in_x, a=a, b=b, p=p, r=r))
            break
        lines.append(Line(t, step, in_x=in_x, a=1.0, b=0.0, p=p, r=r))
        p, r = sigma_x0(prediction, after)
        # slopes: (x - m) / sigma, then (x1 - p x1 - r e) / after
        half, rest, scale = 0.5 * (after - sigma), (1.0 - p) / after, scale_in(after)
        lines.append(
            Line(
                grid.times[i + 1],
                step,
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
