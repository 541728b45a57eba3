"""From a diffusers scheduler config to a step table."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from argus.diffusion.samplers import SAMPLERS
from argus.diffusion.tables import StepTable, table_of
from argus.errors import InvalidArgumentError, ModelError

log = logging.getLogger(__name__)

SUBSTITUTE = "ddim"
"""Sampler of folders whose own scheduler is not among SAMPLERS, such as PNDM or UniPC."""
TRIED_STEPS = 20


def default_sampler(config: Mapping[str, Any]) -> str:
    """Return the sampler that a scheduler config asks for, or the substitute, which is logged."""
    kind = config.get("_class_name")
    for sampler in SAMPLERS.values():
        if sampler.scheduler.__name__ == kind:
            return sampler.name
    log.warning("the folder's own scheduler, %s, is not served; %s instead", kind, SUBSTITUTE)
    return SUBSTITUTE


def served_samplers(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the samplers that can run under a scheduler config.

    Raises:
        ModelError: the folder's own, or its substitute, is not among them; says why.
    """
    served = []
    wanted = default_sampler(config)
    for name in SAMPLERS:
        try:
            build_table(name, config, TRIED_STEPS)
        except (ModelError, InvalidArgumentError) as error:
            if name == wanted:
                raise ModelError(f"sampler {name}: {error}") from error
        else:
            served.append(name)
    return tuple(served)


def make_scheduler(sampler: str, config: Mapping[str, Any]) -> Any:
    """Return the diffusers scheduler that `sampler` reproduces, built as diffusers users do.

    Raises:
        InvalidArgumentError: no such sampler.
        ModelError: the config asks for something that is not linear in x and e.
    """
    if sampler not in SAMPLERS:
        raise InvalidArgumentError("sampler", f"must be one of {', '.join(SAMPLERS)}")
    # Some classes clip by default, which is meant for pixels; latents are not in [-1, 1].
    scheduler = SAMPLERS[sampler].scheduler.from_config({"clip_sample": False, **config})
    settings = scheduler.config
    if settings.get("thresholding") or settings.get("clip_sample"):
        raise ModelError(
            "scheduler config: clip_sample and thresholding are not linear; not served"
        )
    if settings.prediction_type not in {"epsilon", "v_prediction", "sample"}:
        raise ModelError(f"scheduler config: prediction_type {settings.prediction_type!r} unknown")
    if sampler == "dpmpp_2m" and (
        settings.algorithm_type != "dpmsolver++" or settings.solver_order > 2
    ):
        raise ModelError(
            "scheduler config: only algorithm_type dpmsolver++ of solver_order 1 or 2 is served"
        )
    if sampler == "ddpm" and settings.variance_type not in {"fixed_small", "fixed_large"}:
        raise ModelError(f"scheduler config: variance_type {settings.variance_type!r} not served")
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
    try:
        scheduler.set_timesteps(steps)
    except ValueError as error:
        raise InvalidArgumentError("steps", str(error)) from error
    if max(scheduler.timesteps.tolist()) >= limit:
        # "leading" spacing with an offset runs past the end; diffusers fails there too.
        raise InvalidArgumentError("steps", f"{steps} is too many for this variant's schedule")
    chosen = SAMPLERS[sampler]
    try:
        return table_of(
            sampler,
            chosen.lines(scheduler),
            float(scheduler.init_noise_sigma),
            draws_noise=chosen.draws_noise,
        )
    except (ArithmeticError, ValueError) as error:
        # For one, two equal sigmas, where more steps are wanted than the schedule tells apart.
        raise InvalidArgumentError(
            "steps", f"{sampler} cannot make {steps} steps of this variant's schedule: {error}"
        ) from error
