"""The flow matching families against their diffusers pipelines."""

from __future__ import annotations

import json
import queue
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline, StableDiffusion3Pipeline
from safetensors.torch import load_file, save_file

from argus.diffusion.adapter import PipelineAdapter, load_variant
from argus.diffusion.flux import FluxAdapter
from argus.engine.engine import Engine
from argus.errors import InvalidArgumentError, ModelError
from argus.types import ResolvedRequest

from .pictures import Recorder, pixels, run, wait_for

CPU = torch.device("cpu")


def request(variant: str, steps: int, guidance: float, **changes: Any) -> ResolvedRequest:
    fields: dict[str, Any] = {
        "request_id": f"{variant}-{steps}-{guidance}",
        "attempt": 1,
        "prompt": "a red circle left of a blue square",
        "negative_prompt": "",
        "seed": 7,
        "width": 32,
        "height": 32,
        "steps": steps,
        "guidance": guidance,
        "sampler": "flow_euler",
        "variant": variant,
        "level": "reference",
    }
    return ResolvedRequest(**(fields | changes))


@pytest.fixture(scope="module")
def pipelines(
    tiny_sd3_folders: dict[str, Path], tiny_flux_folders: dict[str, Path]
) -> dict[str, Any]:
    absent = {"text_encoder_3": None, "tokenizer_3": None}
    found: dict[str, Any] = {}
    for name, folder in tiny_sd3_folders.items():
        parts = absent if name.endswith("no-t5") else {}
        found[name] = StableDiffusion3Pipeline.from_pretrained(folder, **parts)
    for name, folder in tiny_flux_folders.items():
        found[name] = FluxPipeline.from_pretrained(folder)
        # Not in the folder but fixed in the class: 128, too much for a test.
        found[name].default_sample_size = 8
    for pipeline in found.values():
        pipeline.set_progress_bar_config(disable=True)
    return found


@pytest.fixture(scope="module")
def engine(
    tiny_sd3_folders: dict[str, Path],
    tiny_flux_folders: dict[str, Path],
    pipelines: dict[str, Any],
) -> Iterator[Engine]:
    torch.set_num_threads(1)
    adapters: list[PipelineAdapter] = [
        load_variant(folder, CPU, torch.float32) for folder in tiny_sd3_folders.values()
    ]
    adapters += [
        FluxAdapter(name, folder, pipelines[name], CPU, torch.float32)
        for name, folder in tiny_flux_folders.items()
    ]
    engine = Engine(adapters)
    yield engine
    engine.close()


def theirs(pipeline: Any, wanted: ResolvedRequest) -> tuple[torch.Tensor, np.ndarray[Any, Any]]:
    """Return the pipeline's own final latents, and the pixels it makes of the same request."""
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
    if isinstance(pipeline, FluxPipeline):
        last[0] = pipeline._unpack_latents(last[0], wanted.height, wanted.width, 4)
    return last[0], np.asarray(image).astype(int)


VARIANTS = ["tiny-sd3", "tiny-sd3-no-t5", "tiny-flux", "tiny-flux-fast"]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("steps", "guidance", "changes"),
    [
        (28, 5.0, {}),
        (12, 1.0, {}),
        (9, 5.0, {"width": 48, "height": 16}),
        (9, 1.0, {"width": 24, "height": 64}),
        (1, 5.0, {}),
        (4, 5.0, {"negative_prompt": "blue", "seed": 2**63 - 1}),
        (4, 5.0, {"prompt": "a very long prompt " * 20}),
        (4, 5.0, {"prompt": ""}),
    ],
)
def test_latents_and_picture_equal_diffusers(
    engine: Engine,
    pipelines: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    variant: str,
    steps: int,
    guidance: float,
    changes: dict[str, Any],
) -> None:
    wanted = request(variant, steps, guidance, **changes)
    recorder = Recorder(engine.adapters[variant], monkeypatch)
    done = run(engine, wanted)
    latents, picture = theirs(pipelines[variant], wanted)
    assert (recorder.latents[-1] - latents).abs().max().item() <= 1e-4
    assert np.abs(pixels(done.data) - picture).max() <= 1


def test_rows_at_different_steps_equal_themselves_alone(engine: Engine) -> None:
    wanted = [
        request(variant, steps, guidance, seed=seed, request_id=f"{variant}-{seed}")
        for variant in VARIANTS
        for seed, (steps, guidance) in enumerate(((3, 5.0), (7, 1.0), (6, 7.0), (5, 2.0)))
    ]
    inboxes: list[queue.Queue[Any]] = [queue.Queue() for _ in wanted]
    for one, inbox in zip(wanted, inboxes, strict=True):
        engine.submit(one, inbox.put)
    together = [wait_for(inbox) for inbox in inboxes]
    assert max(done.max_lanes for done in together) > 2
    for one, mixed in zip(wanted, together, strict=True):
        alone = run(engine, one)
        if engine.buckets[one.variant].exact:
            assert mixed.data == alone.data, one
        assert np.abs(pixels(mixed.data) - pixels(alone.data)).max() <= 1, one


def test_a_variant_says_what_it_allows(engine: Engine) -> None:
    info = engine.adapters["tiny-sd3"].info
    assert (info.pipeline, info.width, info.height) == ("StableDiffusion3Pipeline", 32, 32)
    # 12 positions of 2 latents of 4 pixels would be 96; twice the native side is less.
    assert (info.size_multiple, info.max_size) == (8, 64)
    assert (info.samplers, info.default_sampler) == (("flow_euler", "flow_heun"), "flow_euler")
    assert (info.default_steps, info.default_guidance) == (28, 7.0)
    with pytest.raises(InvalidArgumentError, match="sampler: must be one of flow_euler"):
        engine.submit(request("tiny-sd3", 4, 1.0, sampler="euler"), print)


def test_flux_takes_one_lane_and_guidance_as_an_input(engine: Engine) -> None:
    guided, fast = ("tiny-flux", "tiny-flux-fast")
    for variant in (guided, fast):
        info = engine.adapters[variant].info
        assert info.guidance_embedded
        assert (info.pipeline, info.size_multiple) == ("FluxPipeline", 8)
        assert (info.width, info.max_size, info.default_guidance) == (32, 64, 3.5)
        low, high = (run(engine, request(variant, 3, guidance)) for guidance in (1.0, 9.0))
        assert low.max_lanes == high.max_lanes == 1
        # Guidance tells in the picture where the weights know it, and only there.
        assert (low.data == high.data) == (variant == fast)
    told = engine.adapters[guided].encode("a red circle, " * 60, False, 32, 32).truncated
    assert told.replace(" ", "").endswith("circle")


def test_a_flux_folder_loads_at_its_own_size(tiny_flux_folders: dict[str, Path]) -> None:
    adapter = load_variant(tiny_flux_folders["tiny-flux"], CPU, torch.float32)
    assert (adapter.info.width, adapter.info.height, adapter.info.max_size) == (512, 512, 1024)
    assert adapter.latent_shape(48, 16) == (4, 4, 12)


def test_words_that_no_encoder_sees_are_told(engine: Engine) -> None:
    fits_t5_only = "a red circle, " * 10
    told = engine.adapters["tiny-sd3"].encode(fits_t5_only, False, 32, 32).truncated
    assert told == ""
    told = engine.adapters["tiny-sd3-no-t5"].encode(fits_t5_only, False, 32, 32).truncated
    assert told.endswith("circle,") or told.endswith("circle ,")
    told = engine.adapters["tiny-sd3"].encode("a red circle, " * 40, False, 32, 32).truncated
    assert told.replace(" ", "").endswith("circle")


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("scheduler/scheduler_config.json", {"stochastic_sampling": True}, "stochastic_sampling"),
        ("vae/config.json", {"shift_factor": None}, "shift_factor"),
    ],
)
def test_folders_that_would_be_drawn_wrong_do_not_load(
    tiny_sd3_folders: dict[str, Path],
    tmp_path: Path,
    part: str,
    change: dict[str, Any],
    message: str,
) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(tiny_sd3_folders["tiny-sd3"], folder)
    config = json.loads((folder / part).read_text()) | change
    (folder / part).write_text(json.dumps(config))
    with pytest.raises(ModelError, match=message):
        load_variant(folder, CPU, torch.float32)


@pytest.mark.parametrize("lost", ["transformer", "text_encoder_2"])
def test_a_flux_folder_without_some_weights_does_not_load(
    tiny_flux_folders: dict[str, Path], tmp_path: Path, lost: str
) -> None:
    folder = tmp_path / "halved"
    shutil.copytree(tiny_flux_folders["tiny-flux"], folder)
    (file,) = (folder / lost).glob("*.safetensors")
    weights = load_file(file)
    weights.pop(sorted(weights)[0])
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match="1 weights are missing"):
        load_variant(folder, CPU, torch.float32)
