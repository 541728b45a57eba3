"""Samplers that extrapolate the model's slope over past steps: PNDM (as PLMS) and LMS.

Both are Adams-Bashforth methods of an order that grows to 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from argus.diffusion.grid import Grid
from argus.diffusion.samplers.alphas import arrivals
from argus.diffusion.samplers.parameters import scale_in, sigma_x0, unit_noise, unit_x0
from argus.diffusion.tables import LATENTS, WideLine

Vector = NDArray[np.float64]

ORDER = 4
STATES = 2 + ORDER - 1
"""x, m and the slopes of the three steps before, the newest first."""
EVEN = ((1.0,), (1.5, -0.5), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
"""Weights of the slopes, the newest first, where all steps are equally long."""


def adams_bashforth(points: Sequence[float], end: float) -> list[float]:
    """Return the weights of slopes known at `points` for the step from the first of them to `end`.

    They sum to 1 and are exact where the slope is a polynomial of a degree below their number.
    """
    length = end - points[0]
    if not length:
        raise ZeroDivisionError("a step between equal points")
    powers = np.vander([(u - points[0]) / length for u in points], increasing=True).T
    return [float(w) for w in np.linalg.solve(powers, 1.0 / np.arange(1, len(points) + 1))]


@dataclass(frozen=True, slots=True)
class _Transfers:
    """DDIM's way of moving latents between training time steps, for the model of one config.

    Attributes:
        prediction: what the model predicts.
        alphas: alpha squared of every training time step.
        final: the same past the first one.
    """

    prediction: str
    alphas: list[float]
    final: float

    def _at(self, t: float) -> tuple[float, float]:
        whole = self.alphas[int(t)] if t >= 0 else self.final
        return math.sqrt(whole), math.sqrt(1.0 - whole)

    def clean(self, t: float) -> tuple[float, float]:
        """Return (p, r) of x0 = p x + r e at a time step."""
        return unit_x0(self.prediction, *self._at(t))

    def move(self, t: float, end: float) -> tuple[float, float]:
        """Return (a, b) of x' = a x + b e from one time step to another."""
        p, r = self.clean(t)
        noise_x, noise_e = unit_noise(self.prediction, *self._at(t))
        alpha, sigma = self._at(end)
        return alpha * p + sigma * noise_x, alpha * r + sigma * noise_e


def pndm(grid: Grid) -> list[WideLine]:
    """Liu et al. 2022 (arXiv 2202.09778), its multistep part alone, started by a second look.

    In step 0 of a full schedule the model looks again from where the first look leads, and the
    mean of both slopes is taken. A run that leaves steps out starts with order 1 instead, since
    that look belongs to the schedule's own first step, and weighs the slopes by their distances in
    time; where nothing is left out between, those weights are the even ones.
    """
    scheduler = grid.scheduler
    transfers = _Transfers(
        scheduler.config.prediction_type,
        scheduler.alphas_cumprod.double().tolist(),
        float(scheduler.final_alpha_cumprod),
    )
    unit = np.eye(STATES + 2)
    x, e, slopes = unit[LATENTS], unit[STATES], unit[2:STATES]
    ends = arrivals(grid)
    twice = grid.complete and grid.total > 1
    lines = _second_look(grid, transfers, ends[0]) if twice else []
    for i, (t, step) in enumerate(zip(grid.times, grid.kept, strict=True)):
        if i == 0 and twice:
            continue
        order = min(ORDER, i + 1)
        weights: Sequence[float] = EVEN[order - 1]
        if not grid.complete:
            weights = adams_bashforth(grid.times[i - order + 1 : i + 1][::-1], ends[i])
        p, r = transfers.clean(t)
        a, b = transfers.move(t, ends[i])
        moved = a * x + b * _weighed(weights, [e, *slopes])
        lines.append(WideLine(t, step, x[:STATES], (moved, p * x + r * e, e, *slopes[:-1])))
    return lines


def _second_look(grid: Grid, transfers: _Transfers, end: int) -> list[WideLine]:
    """Return the two lines of step 0: the latents stay, then move by the mean of both slopes."""
    unit = np.eye(STATES + 2)
    x, e, first = unit[LATENTS], unit[STATES], unit[2]
    (t, after), step = grid.times[:2], grid.kept[0]
    p, r = transfers.clean(t)
    stay = WideLine(t, step, x[:STATES], (x, p * x + r * e, e, *unit[3:STATES]))
    a, b = transfers.move(t, end)
    seen = a * x + b * first
    p, r = transfers.clean(after)
    # diffusers leaves from one jump before `after`, with some spacings not quite t.
    a, b = transfers.move(after + t - end, after)
    moved = a * x + 0.5 * b * (first + e)
    return [stay, WideLine(after, step, seen[:STATES], (moved, p * seen + r * e, *unit[2:STATES]))]


def lms(grid: Grid) -> list[WideLine]:
    """Linear multistep over noise levels (k-diffusion, Crowson 2022), slope (x - x0) / sigma."""
    unit = np.eye(STATES + 2)
    x, e, slopes = unit[LATENTS], unit[STATES], unit[2:STATES]
    sigmas = grid.sigmas
    lines: list[WideLine] = []
    for i, (t, step) in enumerate(zip(grid.times, grid.kept, strict=True)):
        sigma, after = sigmas[i], sigmas[i + 1]
        order = min(ORDER, i + 1)
        weights = adams_bashforth(sigmas[i - order + 1 : i + 1][::-1], after)
        p, r = sigma_x0(grid.scheduler.config.prediction_type, sigma)
        m = p * x + r * e
        slope = (x - m) / sigma
        new = x + (after - sigma) * _weighed(weights, [slope, *slopes])
        see = scale_in(sigma) * x[:STATES]
        lines.append(WideLine(t, step, see, (new, m, slope, *slopes[:-1])))
    return lines


def _weighed(weights: Sequence[float], slopes: Sequence[Vector]) -> Vector:
    """Return the sum of as many slopes as there are weights."""
    total = np.zeros(STATES + 2)
    for weight, slope in zip(weights, slopes, strict=False):
        total += weight * slope
    return total
