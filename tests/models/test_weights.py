"""The bundled folders: they load offline, are small, and draw what is asked."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler, StableDiffusionPipeline
from safetensors import safe_open
from transformers import CLIPModel, CLIPProcessor

from argus.models import SCORER, bundled_dir, bundled_variants
from argus.models.captions import parse_caption
from argus.models.evaluate import generate, load_pipeline
from argus.models.scenes import Scene, render
from argus.models.scorer import similarities
from argus.models.verifier import verify


@pytest.fixture(scope="module")
def base() -> StableDiffusionPipeline:
    return load_pipeline(bundled_variants()["scenes-base"])


def test_both_variants_are_bundled_base_first() -> None:
    assert list(bundled_variants()) == ["scenes-base", "scenes-small"]


def test_weights_are_float16_and_at_most_40_megabytes() -> None:
    files = list(bundled_dir().rglob("*.safetensors"))
    assert sum(f.stat().st_size for f in files) <= 40e6
    # The predictor's arrays are not a model's weights: numpy reads them as they are.
    for path in (f for f in files if "predictor" not in f.parts):
        with safe_open(path, framework="pt") as tensors:
            kinds = {tensors.get_slice(k).get_dtype() for k in tensors.keys()}  # noqa: SIM118
        assert kinds <= {"F16", "I64"}, path


def test_no_config_carries_a_path_of_the_machine_it_was_made_on() -> None:
    for path in bundled_dir().rglob("*.json"):
        assert not re.search(r'"/(home|root|work|tmp|Users)', path.read_text()), path


@pytest.mark.parametrize("name", ["scenes-base", "scenes-small"])
def test_a_pipeline_makes_the_same_picture_for_the_same_seed(name: str) -> None:
    pipeline = load_pipeline(bundled_variants()[name])
    first = generate(pipeline, ["a blue square"], 4, seed=5)
    assert first.shape == (1, 64, 64, 3)
    assert np.array_equal(first, generate(pipeline, ["a blue square"], 4, seed=5))


def test_base_draws_a_red_circle(base: StableDiffusionPipeline) -> None:
    text = "a red circle"
    facts = parse_caption(text)
    assert facts is not None
    images = generate(base, [text] * 4, 25)
    assert sum(verify(image, facts).all_facts for image in images) >= 3


@pytest.mark.parametrize("sampler", [EulerDiscreteScheduler, DPMSolverMultistepScheduler])
def test_other_samplers_draw_a_red_circle_too(base: StableDiffusionPipeline, sampler: type) -> None:
    ddim = base.scheduler
    base.scheduler = sampler.from_config(ddim.config)
    images = generate(base, ["a red circle"] * 4, 20)
    base.scheduler = ddim
    facts = parse_caption("a red circle")
    assert facts is not None
    assert sum(verify(image, facts).all_facts for image in images) >= 2


def test_the_scorer_prefers_the_right_caption(scenes: list[Scene]) -> None:
    folder = bundled_dir() / SCORER
    scorer = CLIPModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    single = [s for s in scenes if len(s.objects) == 1][:10]
    texts = [f"a {s.objects[0].colour} {s.objects[0].shape}" for s in single]
    cosine = similarities(scorer, render(single, 64), texts)
    right = cosine.diagonal().mean()
    wrong = (cosine.sum() - cosine.diagonal().sum()) / (len(single) * (len(single) - 1))
    assert right > wrong + 0.2


def test_the_scorer_processor_prepares_what_the_scorer_was_trained_on(
    scenes: list[Scene],
) -> None:
    processor = CLIPProcessor.from_pretrained(bundled_dir() / SCORER, local_files_only=True)
    picture = (render(scenes[:1], 64)[0] * 255).round().byte().permute(1, 2, 0).numpy()
    made = processor(text=["a red circle"], images=[picture], return_tensors="pt", padding=True)
    assert torch.allclose(
        made["pixel_values"][0], torch.from_numpy(picture).permute(2, 0, 1) / 127.5 - 1, atol=1e-3
    )


def test_the_evaluation_beside_the_weights_is_complete() -> None:
    report = json.loads((bundled_dir() / "evaluation.json").read_text())
    assert report["prompts"] == 200
    for run in ("renderings", "base, 50 steps", "small, 50 steps", "base, 10 steps"):
        assert report["results"][run]["all"]["n"] == 200
    assert (Path(bundled_dir()).parent / "README.md").is_file()
