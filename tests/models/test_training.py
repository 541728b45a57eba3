"""Training: a tiny run goes through, repeats itself, and resumes."""

import shutil
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from torch import nn

from argus.models.train import main
from argus.models.training import Average, Budget, load_checkpoint


def run(work: Path, *more: str) -> None:
    main(
        ["--scale", "tiny", "--device", "cpu", "--work", str(work), "--out", str(work / "out")]
        + list(more)
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole tiny run."""
    work = tmp_path_factory.mktemp("trained")
    run(work)
    return work


def test_a_tiny_run_trains_and_exports_the_whole_family(trained: Path) -> None:
    for name in ("scenes-base", "scenes-small"):
        pipeline = StableDiffusionPipeline.from_pretrained(
            trained / "out" / name, dtype=torch.float32, local_files_only=True
        )
        pipeline.set_progress_bar_config(disable=True)
        image = pipeline("a red circle", num_inference_steps=2, output_type="np").images[0]
        assert image.shape == (64, 64, 3)
    with pytest.raises(SystemExit, match="--resume"):
        run(trained, "--stage", "vae")


def test_the_same_seed_trains_the_same_weights(trained: Path, tmp_path: Path) -> None:
    run(tmp_path, "--stage", "vae,text")
    for stage in ("vae", "text"):
        first, second = (load_checkpoint(work / f"{stage}.pt") for work in (trained, tmp_path))
        assert all(torch.equal(v, second["model"][k]) for k, v in first["model"].items())


def test_a_stage_resumes_where_it_stopped(trained: Path, tmp_path: Path) -> None:
    for part in ("vae", "text", "pool"):
        shutil.copy(trained / f"{part}.pt", tmp_path)
    run(tmp_path, "--stage", "scenes-small", "--unet-samples", "32", "32")
    assert load_checkpoint(tmp_path / "scenes-small.pt")["seen"] == 32
    run(tmp_path, "--stage", "scenes-small", "--resume", "--unet-samples", "64", "64")
    assert load_checkpoint(tmp_path / "scenes-small.pt")["seen"] == 64


def test_the_learning_rate_rises_holds_and_falls() -> None:
    budget = Budget(1000)
    rates = []
    for seen in (0, 50, 100, 500, 1000):
        budget.seen = seen
        rates.append(budget.learning_rate(1.0, 100, hold=0.5))
    assert rates == pytest.approx([0.0, 0.5, 1.0, 1.0, 0.02])


def test_the_average_follows_the_weights() -> None:
    layer = nn.Linear(2, 2)
    average = Average(layer, 0.9)
    with torch.no_grad():
        layer.weight.add_(1.0)
    for _ in range(200):
        average.update(layer)
    assert torch.allclose(average.weights["weight"], layer.weight)
