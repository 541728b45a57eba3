"""Cached states on real processes: read across nodes, checked against diffusers, and lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from local_cluster import LocalCluster

from argus.cache.files import SUFFIX, node_folder, read_header, read_state
from argus.client import Client, ImageResult
from argus.v1 import admin_pb2

from .conftest import argus, pixels

pytestmark = pytest.mark.integration
VARIANT = "tiny-eps"
STEPS, SKIP, GUIDANCE = 10, 5, 4.0
LEVEL = f"{VARIANT}-skip-50"
PROMPTS = ("a red circle", "blue squares", "a ring")
"""Of three, two are drawn by the same of two nodes."""
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Setting:
    """A cluster whose one node is left, and two prompts whose states the other one kept."""

    address: str
    client: Client
    cached: list[ImageResult]
    folder: Path
    model: Path

    @property
    def files(self) -> list[Path]:
        """The files of the two entries, in the order of `cached`."""
        found = node_folder(self.folder, self.cached[0].node).rglob(f"*{SUFFIX}")
        return sorted(found, key=lambda path: read_header(path).info.created_unix_s)

    def ask(self, prompt: str, seed: int) -> ImageResult:
        return self.client.generate(
            prompt, seed=seed, steps=STEPS, guidance=GUIDANCE, variant=VARIANT, level=LEVEL
        )


def until(client: Client, holds: Callable[[admin_pb2.GetStatusResponse], bool]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not holds(client.status()):
        assert time.monotonic() < end_s, client.status()
        time.sleep(0.05)


@pytest.fixture(scope="module")
def setting(
    tiny_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Setting]:
    root = tmp_path_factory.mktemp("cached")
    model, folder = tiny_folders[VARIANT], root / "states"
    file = root / "argus.toml"
    file.write_text(f'[cache]\nembedder = "{model / "text_encoder"}"\n')
    flags = ["--config", str(file), "--model", str(model), "--threads", "1"]
    flags += ["--cache", "deadline", "--cache-folder", str(folder)]
    with LocalCluster(2, flags) as cluster, Client(cluster.address) as client:
        until(client, lambda status: bool(status.cache.embedder))
        drawn: dict[str, list[ImageResult]] = {}
        for count, prompt in enumerate(PROMPTS, start=1):
            result = client.generate(
                prompt, seed=1, steps=STEPS, guidance=GUIDANCE, variant=VARIANT
            )
            drawn.setdefault(result.node, []).append(result)
            until(client, lambda status, count=count: status.cache.entries == count)
        node, results = max(drawn.items(), key=lambda item: len(item[1]))
        client.drain(node)
        until(client, lambda status: len(status.nodes) == 1)
        yield Setting(cluster.address, client, results, folder, model)


def continued(model: Path, state: torch.Tensor, prompt: str) -> np.ndarray:
    """Return the picture that diffusers' own modules and scheduler make of latents at SKIP."""
    torch.set_num_threads(1)
    pipeline = DiffusionPipeline.from_pretrained(model, dtype=torch.float32, local_files_only=True)
    scheduler = pipeline.scheduler
    scheduler.set_timesteps(STEPS)
    positive, negative = pipeline.encode_prompt(prompt, "cpu", 1, True, negative_prompt="")
    texts = torch.cat([negative, positive])
    x = state[None]
    with torch.inference_mode():
        for t in scheduler.timesteps[SKIP:]:
            both = torch.cat([x, x])
            e = pipeline.unet(both, t, encoder_hidden_states=texts).sample
            without, with_prompt = e.chunk(2)
            x = scheduler.step(without + GUIDANCE * (with_prompt - without), t, x).prev_sample
        decoded = pipeline.vae.decode(x / pipeline.vae.config.scaling_factor).sample
    return np.asarray(pipeline.image_processor.postprocess(decoded, output_type="pil")[0])


def test_a_state_of_another_node_gives_the_picture_that_diffusers_makes_of_it(
    setting: Setting,
) -> None:
    prompt = setting.cached[0].prompt
    before = setting.client.status().counters
    served = setting.ask(prompt, seed=2)
    assert served.node != setting.cached[0].node
    assert (served.level, served.steps, served.skipped_steps) == (LEVEL, STEPS - SKIP, SKIP)
    assert served.similarity == pytest.approx(1.0, abs=1e-3)
    after = setting.client.status()
    assert after.counters.reused == before.reused + 1
    assert after.counters.steps_saved == before.steps_saved + SKIP
    assert [times.tier for times in after.cache.fetches] == ["sibling"]
    path = setting.files[0]
    found = read_state(path, read_header(path).info.key, SKIP)
    assert found is not None
    state = torch.from_numpy(found.state.array().copy())
    assert np.array_equal(pixels(served.data), continued(setting.model, state, prompt))


def test_a_state_that_was_harmed_is_a_miss_and_the_picture_a_whole_one(setting: Setting) -> None:
    prompt, path = setting.cached[1].prompt, setting.files[1]
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(bytes(content))
    whole = setting.client.generate(
        prompt, seed=3, steps=STEPS, guidance=GUIDANCE, variant=VARIANT, tenant="unrelated"
    )
    misses = setting.client.status().counters.state_misses
    served = setting.ask(prompt, seed=3)
    assert (served.level, served.similarity) == (f"{VARIANT}-reference", 0.0)
    assert (served.steps, served.skipped_steps) == (STEPS, 0)
    assert np.array_equal(pixels(served.data), pixels(whole.data))
    assert setting.client.status().counters.state_misses == misses + 1


def test_operators_see_the_damage_and_the_numbers(setting: Setting) -> None:
    said = argus("cache", "verify", "--folder", str(setting.folder))
    assert said.returncode == 1
    assert "1 damaged" in said.stdout
    said = argus("status", "--server", setting.address)
    assert "cache: " in said.stdout
