"""The flow matching families against their diffusers pipelines and scheduler."""

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
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, StableDiffusion3Pipeline
from safetensors.torch import load_file, save_file

from argus.diffusion.adapter import PipelineAdapter, load_variant
from argus.diffusion.flow import FLOW_SAMPLERS, build_flow_table
from argus.diffusion.flux import FluxAdapter
from argus.diffusion.samplers import SAMPLERS
from argus.diffusion.schedules import build_table
from argus.engine.engine import Engine
from argus.errors import InvalidArgumentError, ModelError
from argus.types import ResolvedRequest, forwards

from .pictures import Recorder, pixels, run, wait_for

CPU = torch.device("cpu")
CONFIG: dict[str, Any] = {"_class_name": "FlowMatchEulerDiscreteScheduler"}
TOKENS = 1024
MU = 0.5 + (1.15 - 0.5) * (TOKENS - 256) / (4096 - 256)
"""Of that many image tokens, between the two ends that the scheduler's defaults name."""


# -- the table ------------------------------------------------------------------------------------


OPTIONS: list[dict[str, Any]] = [
    {},
    {"shift": 3.0},
    {"use_dynamic_shifting": True},
    {"use_dynamic_shifting": True, "time_shift_type": "linear"},
    {"shift": 3.0, "shift_terminal": 0.1},
    {"shift": 3.0, "use_karras_sigmas": True},
    {"use_exponential_sigmas": True},
    {"use_beta_sigmas": True},
    {"num_train_timesteps": 500},
]
TABLES = [
    (options, steps)
    for options in OPTIONS
    for steps in (1, 2, 10, 28, 50)
    if steps > 1 or "shift_terminal" not in options  # which is refused, see below
]


@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize(("options", "steps"), TABLES)
def test_table_equals_diffusers_step(options: dict[str, Any], steps: int, even: bool) -> None:
    table = build_flow_table("flow_euler", CONFIG | options, steps, TOKENS, even_sigmas=even)
    scheduler = FlowMatchEulerDiscreteScheduler(**options)
    sigmas = [(steps - i) / steps for i in range(steps)] if even else None
    mu = MU if "use_dynamic_shifting" in options else None
    scheduler.set_timesteps(steps, sigmas=sigmas, mu=mu)
    generator = torch.Generator().manual_seed(steps)
    clean, noise = (torch.randn(1, 4, 8, 8, generator=generator) for _ in range(2))
    x = noise
    assert table.forwards == forwards("flow_euler", steps) == len(scheduler.timesteps)
    assert (table.initial_scale, table.draws_noise) == (1.0, False)
    for i, (line, t) in enumerate(zip(table.lines, scheduler.timesteps, strict=True)):
        timestep, in_x, in_m, a, b, c, d, p, q, r = (float(v) for v in line)
        assert timestep == pytest.approx(float(t), rel=1e-6)
        assert (in_x, in_m, c, d, q) == (1.0, 0.0, 0.0, 0.0, 0.0)
        seen = scheduler.scale_noise(clean, t[None], noise) if i == 0 else x
        e = noise - clean + 0.1 * torch.randn(clean.shape, generator=generator)
        theirs = scheduler.step(e, t, seen).prev_sample
        torch.testing.assert_close(a * seen + b * e, theirs, atol=1e-5, rtol=0)
        sigma = float(scheduler.sigmas[i])
        exact = (1.0 - sigma) * clean + sigma * noise
        torch.testing.assert_close(p * exact + r * (noise - clean), clean, atol=1e-5, rtol=0)
        x = theirs


def test_samplers_of_the_other_kind_are_refused_by_name() -> None:
    for sampler in (*SAMPLERS, "magic"):
        with pytest.raises(InvalidArgumentError, match=r"sampler: must be one of flow_euler"):
            build_flow_table(sampler, CONFIG, 10, TOKENS)
    for sampler in FLOW_SAMPLERS:
        with pytest.raises(InvalidArgumentError, match=r"sampler: must be one of ddim, ddpm"):
            build_table(sampler, {}, 10)


def test_impossible_steps_name_the_field() -> None:
    for steps in (0, 1001):
        with pytest.raises(InvalidArgumentError, match=r"steps: must be 1 to 1000"):
            build_flow_table("flow_euler", CONFIG, steps, TOKENS)
    with pytest.raises(InvalidArgumentError, match=r"steps: 1 is too few"):
        build_flow_table("flow_euler", CONFIG | {"shift_terminal": 0.1}, 1, TOKENS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stochastic_sampling": True}, "stochastic_sampling is not served"),
        ({"invert_sigmas": True}, "invert_sigmas is not served"),
        ({"_class_name": "FlowMatchHeunDiscreteScheduler"}, "is not served for flow matching"),
    ],
)
def test_schedules_outside_the_table_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build_flow_table("flow_euler", CONFIG | change, 10, TOKENS)


# -- the pipelines --------------------------------------------------------------------------------


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
    assert (info.samplers, info.default_sampler) == (("flow_euler",), "flow_euler")
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
