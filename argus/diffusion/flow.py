"""The step table of flow matching models (Esser et al. 2024, arXiv 2403.03206).

Such a model sees x = (1 - sigma) x0 + sigma noise and gives e = noise - x0, so that e is the slope
of x over sigma, and x - sigma e the clean latent. Sigmas and time steps are taken from diffusers'
FlowMatchEulerDiscreteScheduler.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from diffusers import FlowMatchEulerDiscreteScheduler

from argus.diffusion.tables import Line, StepTable, table_of
from argus.errors import InvalidArgumentError, ModelError

FLOW_SAMPLERS = ("flow_euler",)
"""Samplers of the flow matching families; those of argus.diffusion.samplers are not for them."""


def make_flow_scheduler(config: Mapping[str, Any]) -> Any:
    """Return the diffusers scheduler of a flow matching folder.

    Raises:
        ModelError: it is of another class, or asks for noise at each step or sigmas that grow.
    """
    name = config.get("_class_name")
    if name != FlowMatchEulerDiscreteScheduler.__name__:
        raise ModelError(
            f"scheduler config: {name} is not served for flow matching models; served: "
            f"{FlowMatchEulerDiscreteScheduler.__name__}"
        )
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
) -> StepTable:
    """Return the table of `steps` Euler steps under a diffusers flow matching config.

    Args:
        sampler: one of `FLOW_SAMPLERS`.
        config: of the scheduler, with `_class_name`.
        steps: one forward each.
        image_tokens: tokens the transformer makes of the latents; a schedule with dynamic shifting
            depends on it, as in the pipelines' `calculate_shift`.
        even_sigmas: start from 1, …, 2/steps, 1/steps before any shift, as FluxPipeline does,
            instead of from the scheduler's own range.

    Raises:
        InvalidArgumentError: no such sampler, or it cannot make that many steps.
        ModelError: as in `make_flow_scheduler`.
    """
    if sampler not in FLOW_SAMPLERS:
        raise InvalidArgumentError("sampler", f"must be one of {', '.join(FLOW_SAMPLERS)}")
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
    return table_of(sampler, _euler(scheduler), initial_scale=1.0)


def _shift(config: Any, image_tokens: int) -> float:
    """Return mu: it grows linearly with the image from base_shift to max_shift."""
    slope = (config.max_shift - config.base_shift) / (
        config.max_image_seq_len - config.base_image_seq_len
    )
    return float(image_tokens * slope + config.base_shift - slope * config.base_image_seq_len)


def _euler(scheduler: Any) -> list[Line]:
    sigmas, times = scheduler.sigmas.double().tolist(), scheduler.timesteps.tolist()
    return [
        Line(t, i, a=1.0, b=after - sigma, p=1.0, r=-sigma)
        for i, (t, sigma, after) in enumerate(zip(times, sigmas, sigmas[1:], strict=False))
    ]
