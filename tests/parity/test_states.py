"""Rows that start from a state, against diffusers continued from the same latents."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline

from argus.diffusion.adapter import load_variant
from argus.diffusion.samplers import SAMPLERS
from argus.diffusion.schedules import make_scheduler
from argus.engine.engine import Engine, EngineOptions
from argus.engine.events import RowStates

from .pictures import Recorder, run
from .test_pipeline import request

STEPS = 20
SKIPS = (4, 10)
UNCLEAR_IN_DIFFUSERS = {"lms", "pndm"}
"""Samplers whose scheduler does not say what continuing in the middle is; docs/samplers.md."""


@pytest.fixture(scope="module")
def engine(tiny_folders: dict[str, Path]) -> Iterator[Engine]:
    adapter = load_variant(tiny_folders["tiny-eps"], torch.device("cpu"), torch.float32)
    engine = Engine([adapter], EngineOptions(slots=4, max_lanes=4))
    yield engine
    engine.close()


def continued(folder: Path, sampler: str, skip: int, state: torch.Tensor) -> torch.Tensor:
    """Return the latents that diffusers' own modules and scheduler reach from `state`."""
    pipeline = DiffusionPipeline.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    config = dict(pipeline.scheduler.config) | {"_class_name": type(pipeline.scheduler).__name__}
    scheduler = make_scheduler(sampler, config)
    scheduler.set_timesteps(STEPS)
    wanted = request(sampler, STEPS, 5.0)
    negative, positive = reversed(
        pipeline.encode_prompt(wanted.prompt, "cpu", 1, True, negative_prompt="")
    )
    texts = torch.cat([negative, positive])
    generator = torch.Generator("cpu").manual_seed(wanted.seed)
    first = skip * (2 if sampler == "heun" else 1)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    extra = {"generator": generator} if SAMPLERS[sampler].draws_noise else {}
    x = state[None]
    with torch.inference_mode():
        for t in scheduler.timesteps[first:]:
            both = scheduler.scale_model_input(torch.cat([x, x]), t)
            without, with_prompt = pipeline.unet(
                both, t, encoder_hidden_states=texts, return_dict=False
            )[0].chunk(2)
            e = without + wanted.guidance * (with_prompt - without)
            x = scheduler.step(e, t, x, **extra, return_dict=False)[0]
    return x[0]


@pytest.mark.parametrize("sampler", [s for s in SAMPLERS if s not in UNCLEAR_IN_DIFFUSERS])
def test_a_row_from_a_state_equals_diffusers_continued(
    engine: Engine, tiny_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    recorder = Recorder(engine.adapters["tiny-eps"], monkeypatch)
    events: list[Any] = []
    run(engine, request(sampler, STEPS, 5.0, checkpoints=SKIPS), events.append)
    (states,) = [event for event in events if isinstance(event, RowStates)]
    for skip in SKIPS:
        state: Future[torch.Tensor | None] = Future()
        state.set_result(states.latents[skip])
        run(engine, request(sampler, STEPS, 5.0, skip=skip), state=state)
        ours = recorder.latents[-1][0]
        theirs = continued(tiny_folders["tiny-eps"], sampler, skip, states.latents[skip])
        scale = max(1.0, theirs.abs().max().item() / 4)
        assert (ours - theirs).abs().max().item() <= 1e-4 * scale
