"""Every family served by its folder alone: the picture is the plain diffusers pipeline's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, PNDMScheduler
from local_cluster import LocalCluster
from tiny_models import TINY

from argus.client import Client

from .conftest import pixels

pytestmark = pytest.mark.integration
FAMILIES = ("tiny-eps", "tiny-v", "tiny-xl", "tiny-sd3", "tiny-flux", "tiny-pndm")
STEPS, GUIDANCE, SEED, SIDE = 9, 4.0, 11, 32
PROMPT = "a red circle"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("families")
    found = {name: TINY[name](root / name) for name in FAMILIES if name in TINY}
    return found | {"tiny-pndm": with_own_scheduler_of_stable_diffusion_1(root / "tiny-pndm")}


def with_own_scheduler_of_stable_diffusion_1(folder: Path) -> Path:
    TINY["tiny-eps"](folder)
    config = json.loads((folder / "scheduler/scheduler_config.json").read_text())
    PNDMScheduler.from_config(config, skip_prk_steps=True).save_pretrained(folder / "scheduler")
    index = folder / "model_index.json"
    index.write_text(index.read_text().replace("DDIMScheduler", "PNDMScheduler"))
    return folder


@pytest.fixture(scope="module")
def served(folders: dict[str, Path]) -> Iterator[str]:
    flags = [part for folder in folders.values() for part in ("--model", str(folder))]
    # A tiny FLUX folder is natively 512 pixels wide: two lanes are enough to wait for.
    with LocalCluster(1, [*flags, "--max-lanes", "2", "--threads", "1"]) as cluster:
        yield cluster.address


@pytest.mark.parametrize("family", FAMILIES)
def test_the_picture_is_that_of_the_plain_pipeline(
    served: str, folders: dict[str, Path], family: str
) -> None:
    with Client(served) as client:
        ours = client.generate(
            PROMPT, variant=family, steps=STEPS, guidance=GUIDANCE, seed=SEED, size=(SIDE, SIDE)
        )
    pipeline = DiffusionPipeline.from_pretrained(folders[family], local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        PROMPT,
        width=SIDE,
        height=SIDE,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        generator=torch.Generator("cpu").manual_seed(SEED),
    ).images[0]
    assert ours.variant == family
    difference = pixels(ours.data).astype(int) - np.asarray(theirs).astype(int)
    assert np.abs(difference).max() <= 1
