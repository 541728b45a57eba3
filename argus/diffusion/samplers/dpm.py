"""DPM-Solver++, multistep, also as an SDE (Lu et al. 2022, arXiv 2211.01095)."""

from __future__ import annotations

import math

import numpy as np

from argus.diffusion.grid import Grid
from argus.diffusion.samplers.parameters import log_snr, scale_in, unit_x0
from argus.diffusion.tables import CLEAN, LATENTS, WideLine


def dpmpp(grid: Grid) -> list[WideLine]:
    """Return the lines of order 1, 2 or 3, as the scheduler's solver_order says.

    The state is x, the m of the step before and, for order 3, the one before that.
    """
    config = grid.scheduler.config
    sigmas = grid.sigmas
    lam = [log_snr(sigma) for sigma in sigmas]
    states = max(2, config.solver_order)
    unit = np.eye(states + 2)
    sde = config.algorithm_type == "sde-dpmsolver++"
    lines: list[WideLine] = []
    for i, (t, step) in enumerate(zip(grid.times, grid.kept, strict=True)):
        alpha, alpha_next = scale_in(sigmas[i]), scale_in(sigmas[i + 1])
        sigma, sigma_next = alpha * sigmas[i], alpha_next * sigmas[i + 1]
        h = lam[i + 1] - lam[i]
        p, r = unit_x0(config.prediction_type, alpha, sigma)
        m = p * unit[LATENTS] + r * unit[states]
        x = sigma_next / sigma * unit[LATENTS]
        if sde:
            x = math.exp(-h) * x
            x += sigma_next * math.sqrt(-math.expm1(-2.0 * h)) * unit[states + 1]
        models = [m, *unit[CLEAN:states]]
        weights = _weights(_order(grid, i), lam[: i + 2], 2.0 * h if sde else h, config.solver_type)
        for weight, model in zip(weights, models, strict=False):
            x = x + alpha_next * weight * model
        lines.append(WideLine(t, step, unit[LATENTS, :states], (x, *models[: states - 1])))
    return lines


def _order(grid: Grid, i: int) -> int:
    """Return the order of the i-th step: lower while history is short, and at the end."""
    config = grid.scheduler.config
    left = len(grid.kept) - i
    lower = config.lower_order_final and grid.length < 15
    if left == 1 and (config.euler_at_final or lower or config.final_sigmas_type == "zero"):
        return 1
    order = min(int(config.solver_order), i + 1)
    return min(order, 2) if left == 2 and lower else order


def _weights(order: int, lam: list[float], span: float, solver_type: str) -> list[float]:
    """Return the weight of each model prediction, the newest first, as a share of alpha.

    Args:
        order: predictions used.
        lam: log SNR of the points up to where the step arrives.
        span: h of the step, twice that for the SDE.
        solver_type: "midpoint" or "heun", two ways of order 2.
    """
    gain = -math.expm1(-span)
    if order == 1:
        return [gain]
    h = lam[-1] - lam[-2]
    slope = math.expm1(-span) / span + 1.0
    near = h / (lam[-2] - lam[-3])
    if order == 2:
        first = near * (0.5 * gain if solver_type == "midpoint" else slope)
        return [gain + first, -first]
    far = h / (lam[-3] - lam[-4])
    # D1 and D2 of the paper's algorithm, from m0 - m1 and m1 - m2
    ratio = (1.0 / near) / (1.0 / near + 1.0 / far)
    bend = 0.5 - (math.expm1(-span) + span) / span**2
    second = bend / (1.0 / near + 1.0 / far)
    of_near = near * (slope * (1.0 + ratio) + second)
    of_far = -far * (slope * ratio + second)
    return [gain + of_near, of_far - of_near, -of_far]
