"""How far each step table is from the `step()` of the diffusers scheduler it reproduces.

`python bench/step_difference.py --out bench/results` measures every sampler over predictions,
spacings and step counts, and writes step_difference.json and .md.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import record
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler

from argus.diffusion.flow import build_flow_table
from argus.diffusion.samplers import SAMPLERS
from argus.diffusion.schedules import build_table, make_scheduler
from argus.diffusion.tables import CLEAN, LATENTS, StepTable

BASE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
"""The schedule of Stable Diffusion 1.x."""
FLOW: dict[str, Any] = {
    "flow_euler": FlowMatchEulerDiscreteScheduler,
    "flow_heun": FlowMatchHeunDiscreteScheduler,
}
SHAPE = (1, 4, 4, 4)
PREDICTIONS = ("epsilon", "v_prediction", "sample")
SPACINGS = ("leading", "trailing", "linspace")
STEPS = (1, 2, 10, 20, 50)
UNKNOWN_TO_DIFFUSERS = {("euler_a", "sample"), ("pndm", "sample")}
"""Pairs that the scheduler's own step() does not implement."""


def cases() -> Iterator[tuple[str, str, str, int]]:
    """Yield (sampler, prediction, spacing, steps) for all that diffusers has."""
    for case in itertools.product(SAMPLERS, PREDICTIONS, SPACINGS, STEPS):
        if case[:2] not in UNKNOWN_TO_DIFFUSERS:
            yield case


def difference(
    table: StepTable, scheduler: Any, timesteps: Sequence[torch.Tensor], seed: int, **extra: Any
) -> float:
    """Return the largest difference over all steps, each taken from the same latents.

    The model's output is what a model that always sees the same clean image would say, plus a
    little noise, so that latents keep the size they have in use.

    Args:
        table: the steps under test.
        scheduler: of diffusers, ready to make the same steps.
        timesteps: what it is told in each.
        seed: of the latents and the model's output.
        extra: further arguments of the scheduler's `step()`.
    """
    if len(timesteps) != table.forwards:
        raise ValueError(f"{table.forwards} lines for {len(timesteps)} time steps")
    generator = torch.Generator().manual_seed(seed)
    clean = torch.randn(SHAPE, generator=generator)
    x = torch.randn(SHAPE, generator=generator) * table.initial_scale
    state = torch.stack([x] + [torch.zeros_like(x)] * (table.states - 1))
    noise, their_noise = (torch.Generator().manual_seed(3) for _ in range(2))
    if table.draws_noise:
        extra["generator"] = their_noise
    inputs, updates = (torch.from_numpy(part).float() for part in (table.inputs, table.updates))
    worst = 0.0
    theirs = x
    for line, t in enumerate(timesteps):
        if abs(table.timesteps[line] - float(t)) > 1e-5 * max(1.0, float(t)):
            raise ValueError(f"time step {table.timesteps[line]} in place of {float(t)}")
        if table.starts_step(line):
            state[LATENTS] = theirs
        seen = torch.tensordot(inputs[line], state, 1)
        # Flow schedulers have no such method, since they scale nothing.
        scales = hasattr(scheduler, "scale_model_input")
        scaled = scheduler.scale_model_input(theirs, t) if scales else theirs
        worst = max(worst, (scaled - seen).abs().max().item())
        # e that predicts the clean image, kept bounded where r is tiny
        *of_state, r, _ = updates[line, CLEAN]
        known = torch.tensordot(torch.stack(of_state), state, 1)
        e = (clean - known) / r if abs(r) > 0.05 else torch.zeros_like(x)
        e = e + 0.1 * torch.randn(SHAPE, generator=generator)
        z = torch.randn(SHAPE, generator=noise) if table.draws_noise else torch.zeros_like(x)
        state = torch.tensordot(updates[line], torch.cat([state, torch.stack([e, z])]), 1)
        theirs = scheduler.step(e, t, theirs, **extra).prev_sample
        if line + 1 == table.forwards or table.starts_step(line + 1):
            worst = max(worst, (state[LATENTS] - theirs).abs().max().item())
        if not theirs.isfinite().all():
            raise ArithmeticError(f"diffusers' step at {float(t)} is not finite")
    return worst


def follow(sampler: str, config: dict[str, Any], steps: int, eta: float = 0.0) -> float:
    """Return the largest difference over all steps of a full schedule."""
    table = build_table(sampler, config, steps, eta=eta)
    scheduler = make_scheduler(sampler, config)
    scheduler.set_timesteps(steps)
    extra = {"eta": eta} if eta else {}
    return difference(table, scheduler, scheduler.timesteps, steps, **extra)


def follow_flow(sampler: str, config: dict[str, Any], steps: int) -> float:
    """Return the largest difference over all steps of a full flow matching schedule."""
    table = build_flow_table(sampler, {"_class_name": FLOW[sampler].__name__} | config, steps, 64)
    scheduler = FLOW[sampler](**config)
    scheduler.set_timesteps(steps)
    return difference(table, scheduler, scheduler.timesteps, steps)


def differences() -> Iterator[tuple[str, str, int, float]]:
    """Yield (sampler, where, steps, largest difference) of every case."""
    for sampler, prediction, spacing, steps in cases():
        config = BASE | {"prediction_type": prediction, "timestep_spacing": spacing}
        yield sampler, f"{prediction}, {spacing}", steps, follow(sampler, config, steps)
    for sampler, shift, steps in itertools.product(FLOW, (1.0, 3.0), STEPS):
        yield sampler, f"shift {shift}", steps, follow_flow(sampler, {"shift": shift}, steps)


def rows() -> list[dict[str, Any]]:
    """Return the worst case of each sampler, and the worst of those with ten steps or more."""
    found = list(differences())
    result = []
    for sampler, kind in [*((s.name, s.scheduler) for s in SAMPLERS.values()), *FLOW.items()]:
        own = [case for case in found if case[0] == sampler]
        _, where, steps, worst = max(own, key=lambda case: case[3])
        result.append(
            {
                "sampler": sampler,
                "scheduler": kind.__name__,
                "cases": len(own),
                "largest difference": worst,
                "where": f"{where}, {steps} step{'s' * (steps > 1)}",
                "largest from 10 steps on": max(case[3] for case in own if case[2] >= 10),
            }
        )
    return result


def main() -> None:
    """Measure every sampler and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(record.write(options.out, "step_difference", {"float32, any step": rows()}))


if __name__ == "__main__":
    main()
