"""The step table of flow matching models (Esser et al. 2024, arXiv 2403.03206).

Such a model sees x = (1 - sigma) x0 + sigma noise and gives e = noise - x0, so that e is the slope
of x over sigma, and x - sigma e the clean latent. Sigmas and time steps are taken from diffusers'
FlowMatchEulerDiscreteScheduler, whose schedule FlowMatchHeunDiscreteScheduler shares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from diffusers import FlowMatchEulerDiscreteScheduler

from argus.diffusion.grid import Grid, make_grid
from argus.diffusion.schedules import check_eta
from argus.diffusion.tables import Line, StepTable, table_of
from argus.errors import InvalidArgumentError, ModelError

FLOW_SAMPLERS = ("flow_euler", "flow_heun")
"""Samplers of the flow matching families; those of argus.diffusion.samplers are not for them."""
OWN = {
    "FlowMatchEulerDiscreteScheduler": "flow_euler",
    "FlowMatchHeunDiscreteScheduler": "flow_heun",
}
"""Sampler of each scheduler class that a flow matching folder may name."""


def default_flow_sampler(config: Mapping[str, Any]) -> str:
    """Return the sampler that the scheduler config of a flow matching folder asks for.

    Raises:
        ModelError: its class is not served.
    """
    name = config.get("_class_name")
    if name not in OWN:
        raise ModelError(
            f"scheduler config: {name} is not served for flow matching models; served: "
            f"{', '.join(OWN)}"
        )
    return OWN[name]


def make_flow_scheduler(config: Mapping[str, Any]) -> Any:
    """Return the diffusers scheduler that sets the sigmas of a flow matching folder.

    Raises:
        ModelError: the folder's is of another class, or asks for noise at each step or sigmas
            that grow.
    """
    default_flow_sampler(config)
    for option in ("stochastic_sampling", "invert_sigmas"):
        if config.get(option):
            raise ModelError(f"scheduler config: {option} is not served")
    return FlowMatchEulerDiscreteScheduler.from_config(dict(config))  # type: ignore[no-untyped-call]


def build_flow_table(
    sampler: str,
    config: Mapping[str, Any],
    steps: int,
    image_tokens: int,
    *,
    even_sigmas: bool = False,
    kept: Sequence[int] | None = None,
    eta: float = 0.0,
) -> StepTable:
    """Return the table of `steps` steps under a diffusers flow matching config.

    Args:
        sampler: one of `FLOW_SAMPLERS`.
        config: of the scheduler, with `_class_name`.
        steps: of the full schedule.
        image_tokens: tokens the transformer makes of the latents; a schedule with dynamic shifting
            depends on it, as in the pipelines' `calculate_shift`.
        even_sigmas: start from 1, …, 2/steps, 1/steps before any shift, as FluxPipeline does,
            instead of from the scheduler's own range.
        kept: the steps of it that are run, as in `argus.diffusion.schedules.build_table`.
        eta: 0; no sampler here draws noise.

    Raises:
        InvalidArgumentError: no such sampler, it cannot make that many steps, or eta is not 0.
        ModelError: as in `make_flow_scheduler`.
        ValueError: `kept` does not name steps of the schedule.
    """
    if sampler not in FLOW_SAMPLERS:
        raise InvalidArgumentError("sampler", f"must be one of {', '.join(FLOW_SAMPLERS)}")
    check_eta(eta, sampler, known=False)
    scheduler = make_flow_scheduler(config)
    limit = scheduler.config.num_train_timesteps
    if not 1 <= steps <= limit:
        raise InvalidArgumentError("steps", f"must be 1 to {limit} for this variant, not {steps}")
    mu = _shift(scheduler.config, image_tokens) if scheduler.config.use_dynamic_shifting else None
    chosen = np.linspace(1.0, 1.0 / steps, steps) if even_sigmas else None
    with np.errstate(all="ignore"):
        scheduler.set_timesteps(steps, sigmas=chosen, mu=mu)
    sigmas = scheduler.sigmas.double().numpy()
    if not np.isfinite(sigmas).all():
        # One step cannot end at shift_terminal and begin at 1; diffusers divides by zero there.
        raise InvalidArgumentError("steps", f"{steps} is too few for this variant's schedule")
    grid = make_grid(scheduler, steps, kept)
    lines = _heun(grid) if sampler == "flow_heun" else _euler(grid)
    return table_of(sampler, lines, initial_scale=1.0)


def _shift(config: Any, image_tokens: int) -> float:
    """Return mu: it grows linearly with the image from base_shift to max_shift."""
    slope = (config.max_shift - config.base_shift) / (
        config.max_image_seq_len - config.base_image_seq_len
    )
    return float(image_tokens * slope + config.base_shift - slope * config.base_image_seq_len)


def _euler(grid: Grid) -> list[Line]:
    sigmas = grid.sigmas
    return [
        Line(t, step, a=1.0, b=sigmas[i + 1] - sigmas[i], p=1.0, r=-sigmas[i])
        for i, (t, step) in enumerate(zip(grid.times, grid.kept, strict=True))
    ]


def _heun(grid: Grid) -> list[Line]:
    """Two forwards a step but for the last, as `argus.diffusion.samplers.sigmas.heun`.

    The second looks from k x + (1 - k) m with k = after / sigma, where the first leads; the step
    goes along the mean of both slopes, of which the first is (x - m) / sigma.
    """
    sigmas = grid.sigmas
    lines: list[Line] = []
    for i, (t, step) in enumerate(zip(grid.times, grid.kept, strict=True)):
        sigma, after = sigmas[i], sigmas[i + 1]
        if i + 1 == len(grid.kept):
            lines.append(Line(t, step, a=1.0, b=after - sigma, p=1.0, r=-sigma))
            break
        k, half = after / sigma, 0.5 * (after - sigma)
        lines.append(Line(t, step, a=1.0, b=0.0, p=1.0, r=-sigma))
        lines.append(
            Line(
                grid.times[i + 1],
                step,
                in_x=k,
                in_m=1.0 - k,
                a=1.0 + half / sigma,
                c=-half / sigma,
                b=half,
                p=k,
                q=1.0 - k,
                r=-after,
            )
        )
    return lines
