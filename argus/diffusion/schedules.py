"""From a diffusers scheduler config to a step table."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from argus.diffusion.grid import make_grid
from argus.diffusion.samplers import SAMPLERS
from argus.diffusion.tables import StepTable, table_of
from argus.errors import InvalidArgumentError, ModelError

log = logging.getLogger(__name__)

SUBSTITUTE = "ddim"
"""Sampler of folders whose own scheduler is not among SAMPLERS, such as DEIS."""
TRIED_STEPS = 20
PREDICTIONS = frozenset({"epsilon", "v_prediction", "sample"})
# Some classes clip by default, which is meant for pixels; latents are not in [-1, 1].
_DEFAULTS = {"clip_sample": False}


def default_sampler(config: Mapping[str, Any]) -> str:
    """Return the sampler that a scheduler config asks for, or the substitute, which is logged."""
    kind = config.get("_class_name")
    for sampler in SAMPLERS.values():
        if sampler.scheduler.__name__ == kind:
            own = sampler.scheduler.from_config({**_DEFAULTS, **config}).config
            wanted = sampler.settings(own)
            if all(own[option] == value for option, value in wanted.items()):
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
    chosen = SAMPLERS[sampler]
    scheduler = chosen.scheduler.from_config({**_DEFAULTS, **config, **chosen.settings(config)})
    settings = scheduler.config
    if settings.get("thresholding") or settings.get("clip_sample"):
        raise ModelError(
            "scheduler config: clip_sample and thresholding are not linear; not served"
        )
    if settings.get("use_flow_sigmas"):
        raise ModelError("scheduler config: use_flow_sigmas is not served")
    known = {"epsilon", "v_prediction"} if sampler == "pndm" else PREDICTIONS
    if settings.prediction_type not in known:
        raise ModelError(
            f"scheduler config: prediction_type {settings.prediction_type!r} is not served"
        )
    if sampler == "ddpm" and settings.variance_type not in {"fixed_small", "fixed_large"}:
        raise ModelError(f"scheduler config: variance_type {settings.variance_type!r} not served")
    if sampler == "unipc" and settings.final_sigmas_type == "zero" and _last_order(settings) > 1:
        raise ModelError("scheduler config: final_sigmas_type zero needs lower_order_final")
    return scheduler


def _last_order(settings: Mapping[str, Any]) -> int:
    return 1 if settings["lower_order_final"] else int(settings["solver_order"])


def build_table(
    sampler: str,
    config: Mapping[str, Any],
    steps: int,
    *,
    kept: Sequence[int] | None = None,
    eta: float = 0.0,
) -> StepTable:
    """Return the table of `steps` steps of `sampler` under a diffusers scheduler config.

    Args:
        sampler: one of `SAMPLERS`.
        config: of the scheduler.
        steps: of the full schedule.
        kept: the steps of it that are run, ascending from 0; None for all. Each goes from its own
            time to that of the next one kept, the last to the end of the schedule. A multistep
            sampler starts as if no step had gone before.
        eta: DDIM's share of fresh noise, from 0 to 1, where 1 has DDPM's variance.

    Raises:
        InvalidArgumentError: no such sampler, it cannot make that many steps, or it knows no eta.
        ModelError: the config asks for something that is not linear.
        ValueError: `kept` does not name steps of the schedule.
    """
    scheduler = make_scheduler(sampler, config)
    chosen = SAMPLERS[sampler]
    check_eta(eta, sampler, known=chosen.lines_with_eta is not None)
    grid = make_grid(_set_timesteps(scheduler, steps), steps, kept)
    try:
        lines = (
            chosen.lines_with_eta(grid, eta)
            if eta and chosen.lines_with_eta
            else chosen.lines(grid)
        )
        return table_of(
            sampler,
            lines,
            float(scheduler.init_noise_sigma),
            draws_noise=chosen.draws_noise or eta > 0.0,
            noise_in_float32=chosen.noise_in_float32,
        )
    except (ArithmeticError, ValueError) as error:
        # For one, two equal sigmas, where more steps are wanted than the schedule tells apart.
        raise InvalidArgumentError(
            "steps", f"{sampler} cannot make {steps} steps of this variant's schedule: {error}"
        ) from error


def check_eta(eta: float, sampler: str, *, known: bool) -> None:
    """Refuse an eta outside 0 to 1, or any but 0 for a sampler that does not know it.

    Raises:
        InvalidArgumentError: it is.
    """
    if not 0.0 <= eta <= 1.0:
        raise InvalidArgumentError("eta", f"must be from 0 to 1, not {eta}")
    if eta and not known:
        raise InvalidArgumentError("eta", f"must be 0 with sampler {sampler}")


def _set_timesteps(scheduler: Any, steps: int) -> Any:
    """Return the scheduler with the time steps of a full schedule set."""
    limit = scheduler.config.num_train_timesteps
    if not 1 <= steps <= limit:
        raise InvalidArgumentError("steps", f"must be 1 to {limit} for this variant, not {steps}")
    try:
        scheduler.set_timesteps(steps)
    except ValueError as error:
        raise InvalidArgumentError(
            "steps", f"{steps} is too many for this sampler under this variant's schedule"
        ) from error
    if max(scheduler.timesteps.tolist()) >= limit:
        # "leading" spacing with an offset runs past the end; diffusers fails there too.
        raise InvalidArgumentError("steps", f"{steps} is too many for this variant's schedule")
    return scheduler
