"""UniPC: a multistep predictor whose steps are corrected by the next forward.

Zhao et al. 2023 (arXiv 2302.04867), algorithms 5 to 8 with the predicted x0, B(h) as diffusers
names it: bh1 is h, bh2 is e^h - 1.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from argus.diffusion.grid import Grid
from argus.diffusion.samplers.parameters import log_snr, scale_in, unit_x0
from argus.diffusion.tables import CLEAN, LATENTS, WideLine

Vector = NDArray[np.float64]
CORRECTION = 2
"""Index in the state of the corrected latents less the part that the next forward adds."""


def unipc(grid: Grid) -> list[WideLine]:
    """Return the lines of any order, as the scheduler's solver_order says.

    The corrector adds a multiple of the new m to what was known one step earlier. That known part
    is one tensor of state, in place of the latents before the step and some m: the state is x, the
    last m, the known part and, from order 3 on, the m before the last.
    """
    config = grid.scheduler.config
    sigmas = grid.sigmas
    lam = [log_snr(sigma) for sigma in sigmas]
    states = 3 + max(0, config.solver_order - 2)
    unit = np.eye(states + 2)
    lines: list[WideLine] = []
    gain = 0.0
    for i, (t, step) in enumerate(zip(grid.times, grid.kept, strict=True)):
        alpha, alpha_next = scale_in(sigmas[i]), scale_in(sigmas[i + 1])
        sigma, sigma_next = alpha * sigmas[i], alpha_next * sigmas[i + 1]
        p, r = unit_x0(config.prediction_type, alpha, sigma)
        m = p * unit[LATENTS] + r * unit[states]
        x = unit[LATENTS]
        if i > 0 and step - 1 not in config.disable_corrector:
            x = unit[CORRECTION] + gain * m
        models = [m, unit[CLEAN], *unit[CORRECTION + 1 : states]]
        order = min(int(config.solver_order), i + 1)
        if config.lower_order_final:
            order = min(order, len(grid.kept) - i)
        h = lam[i + 1] - lam[i]
        known = sigma_next / sigma * x - alpha_next * math.expm1(-h) * m
        predicted, correction = known, 0.0 * x
        if order > 1 or i + 1 < len(grid.kept):
            ratios = [(lam[i - k] - lam[i]) / h for k in range(1, order)]
            span = alpha_next * (-h if config.solver_type == "bh1" else math.expm1(-h))
            slopes = [(old - m) / ratio for old, ratio in zip(models[1:], ratios, strict=False)]
            predictor, corrector = _weights(ratios, h, config.solver_type)
            predicted = known - span * _weighed(predictor, slopes)
            # the corrector's last slope is the next m less this one
            correction = known - span * (_weighed(corrector, slopes) - corrector[-1] * m)
            gain = -span * corrector[-1]
        # The m are shifted by one; the corrector's known part lies between them.
        updates = (predicted, m, correction, *models[1 : states - 2])
        lines.append(WideLine(t, step, unit[LATENTS, :states], updates))
    return lines


def _weights(ratios: list[float], h: float, solver_type: str) -> tuple[list[float], list[float]]:
    """Return the weights of the slopes in the predictor, and in the corrector with its last.

    Args:
        ratios: of the log SNR of each older point, counted from this one, to h.
        h: growth of the log SNR over the step.
        solver_type: "bh1" or "bh2".
    """
    order = len(ratios) + 1
    scale = -h if solver_type == "bh1" else math.expm1(-h)
    phi = math.expm1(-h) / -h - 1.0
    right: list[float] = []
    for k in range(1, order + 1):
        right.append(phi * math.factorial(k) / scale)
        phi = phi / -h - 1.0 / math.factorial(k + 1)
    left = np.vander([*ratios, 1.0], increasing=True).T
    # Of the lowest orders diffusers takes the values for small h.
    corrector = np.linalg.solve(left, right).tolist() if order > 1 else [0.5]
    if order <= 2:
        return [0.5] * len(ratios), corrector
    return np.linalg.solve(left[:-1, :-1], right[:-1]).tolist(), corrector


def _weighed(weights: list[float], vectors: list[Vector]) -> Vector | float:
    """Return the sum over as many vectors as there are, 0 over none."""
    return sum((w * v for w, v in zip(weights, vectors, strict=False)), start=0.0)
