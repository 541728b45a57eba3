"""The engine's pictures against StableDiffusionPipeline's, from the same folder and seed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from numpy.typing import NDArray

from argus.diffusion.adapter import PipelineAdapter, load_variant
from argus.diffusion.samplers import SAMPLERS
from argus.diffusion.schedules import make_scheduler
from argus.engine.engine import Engine
from argus.models import bundled_variants
from argus.types import ResolvedRequest

from .pictures import Recorder, pixels, run

PROMPT = "a red circle left of a blue square"
CASES = [(sampler, 25, 5.0) for sampler in SAMPLERS]
BUNDLED_CASES = [("ddim", 50, 5.0), ("ddim", 20, 1.0), ("euler", 20, 5.0), ("dpmpp_2m", 20, 5.0)]


def request(sampler: str, steps: int, guidance: float, **changes: Any) -> ResolvedRequest:
    fields: dict[str, Any] = {
        "request_id": f"{sampler}-{steps}-{guidance}",
        "attempt": 1,
        "prompt": PROMPT,
        "negative_prompt": "",
        "seed": 7,
        "width": 32,
        "height": 32,
        "steps": steps,
        "guidance": guidance,
        "sampler": sampler,
        "variant": "tiny-eps",
        "level": "reference",
    }
    return ResolvedRequest(**(fields | changes))


def theirs(pipeline: Any, wanted: ResolvedRequest) -> tuple[torch.Tensor, NDArray[Any]]:
    """Return the final latents and the pixels that a diffusers pipeline makes of a request."""
    config = dict(pipeline.scheduler.config) | {"_class_name": type(pipeline.scheduler).__name__}
    own, pipeline.scheduler = pipeline.scheduler, make_scheduler(wanted.sampler, config)
    last: list[torch.Tensor] = []

    def keep(_: Any, step: int, t: Any, values: dict[str, Any]) -> dict[str, Any]:
        last[:] = [values["latents"].clone()]
        return values

    image = pipeline(
        wanted.prompt,
        negative_prompt=wanted.negative_prompt or None,
        width=wanted.width,
        height=wanted.height,
        num_inference_steps=wanted.steps,
        guidance_scale=wanted.guidance,
        generator=torch.Generator("cpu").manual_seed(wanted.seed),
        callback_on_step_end=keep,
    ).images[0]
    pipeline.scheduler = own
    return last[0], np.asarray(image).astype(int)


def load_pipeline(folder: Path) -> Any:
    pipeline = DiffusionPipeline.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def folders(tiny_folders: dict[str, Path], tiny_xl_folders: dict[str, Path]) -> dict[str, Path]:
    return tiny_folders | tiny_xl_folders


@pytest.fixture(scope="module")
def pipelines(folders: dict[str, Path]) -> dict[str, Any]:
    return {name: load_pipeline(folder) for name, folder in folders.items()}


@pytest.fixture(scope="module")
def adapters(folders: dict[str, Path]) -> dict[str, PipelineAdapter]:
    cpu = torch.device("cpu")
    return {n: load_variant(f, cpu, torch.float32) for n, f in folders.items()}


@pytest.fixture(scope="module")
def engine(adapters: dict[str, PipelineAdapter]) -> Iterator[Engine]:
    engine = Engine(list(adapters.values()))
    yield engine
    engine.close()


@pytest.mark.parametrize("variant", ["tiny-eps", "tiny-v"])
@pytest.mark.parametrize(("sampler", "steps", "guidance"), CASES)
def test_final_latents_of_many_steps_equal_diffusers(
    engine: Engine,
    pipelines: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    variant: str,
    sampler: str,
    steps: int,
    guidance: float,
) -> None:
    wanted = request(sampler, steps, guidance, variant=variant)
    recorder = Recorder(engine.adapters[variant], monkeypatch)
    done = run(engine, wanted)
    latents, picture = theirs(pipelines[variant], wanted)
    # Random weights make latents grow with Euler; the bound is on the scale of the latents.
    scale = max(1.0, latents.abs().max().item() / 4)
    assert (recorder.latents[-1] - latents).abs().max().item() <= 1e-4 * scale
    assert np.abs(pixels(done.data) - picture).max() <= 1


@pytest.mark.parametrize("variant", ["tiny-eps", "tiny-xl"])
@pytest.mark.parametrize(
    "changes",
    [
        {"negative_prompt": "blue"},
        {"width": 48, "height": 16},
        {"seed": 2**63 - 1},
        {"prompt": "a very long prompt " * 10},
        {"steps": 1},
    ],
)
def test_other_requests_equal_diffusers_too(
    engine: Engine, pipelines: dict[str, Any], variant: str, changes: dict[str, Any]
) -> None:
    steps = changes.get("steps", 8)
    rest = {name: value for name, value in changes.items() if name != "steps"}
    wanted = request("ddim", steps, 4.0, variant=variant, **rest)
    _, picture = theirs(pipelines[variant], wanted)
    assert np.abs(pixels(run(engine, wanted).data) - picture).max() <= 1


@pytest.mark.slow
def test_bundled_base_equals_diffusers(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = bundled_variants()["scenes-base"]
    pipeline = load_pipeline(folder)
    adapter = load_variant(folder, torch.device("cpu"), torch.float32)
    engine = Engine([adapter])
    try:
        recorder = Recorder(adapter, monkeypatch)
        for sampler, steps, guidance in BUNDLED_CASES:
            wanted = request(sampler, steps, guidance, variant="scenes-base", width=64, height=64)
            run(engine, wanted)
            latents, _ = theirs(pipeline, wanted)
            assert (recorder.latents[-1] - latents).abs().max().item() <= 1e-4, wanted
    finally:
        engine.close()
