"""What a profile says of a tiny variant, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from argus.config import NodeConfig
from argus.control.profile import CostProfile
from argus.diffusion.adapter import PipelineAdapter, load_variant
from argus.engine.buckets import probe_buckets
from argus.errors import InvalidArgumentError, ModelError
from argus.node.device import open_device
from argus.node.gauge import Gauge
from argus.node.profile import Plan, measure_profile
from argus.node.size_costs import measure_size
from argus.types import ImageFormat

CPU = torch.device("cpu")


def measure(folders: list[Path], *sizes: tuple[int, int]) -> tuple[CostProfile, list[str]]:
    said: list[str] = []
    device = open_device(NodeConfig(device="cpu", threads=1))
    plan = Plan(folders, max_lanes=4, sizes=sizes, command="argus profile")
    return measure_profile(plan, device, said.append), said


def test_a_profile_has_every_variant_at_its_native_size_and_those_asked_for(
    tiny_folders: dict[str, Path], tiny_sd3_folders: dict[str, Path]
) -> None:
    folders = [tiny_folders["tiny-eps"], tiny_sd3_folders["tiny-sd3"]]
    profile, said = measure(folders, (16, 32), (32, 32), (16, 32))
    assert [v.name for v in profile.variants] == ["tiny-eps", "tiny-sd3"]
    assert (profile.circumstances.threads, profile.circumstances.dtype) == (1, "float32")
    assert profile.circumstances.versions["torch"] == torch.__version__
    for folder, variant in zip(folders, profile.variants, strict=True):
        adapter = load_variant(folder, CPU, torch.float32)
        buckets = probe_buckets(adapter, 4)
        assert [(s.width, s.height) for s in variant.sizes] == [(32, 32), (16, 32)]
        for size in variant.sizes:
            assert (size.steps.lanes, variant.exact) == (buckets.sizes, buckets.exact)
            assert list(size.steps.seconds) == sorted(size.steps.seconds), "never falling"
            channels, height, width = adapter.latent_shape(size.width, size.height)
            assert size.state.state_bytes == 4 * channels * height * width
            assert set(size.compress_s) == {kind.value for kind in ImageFormat}
        steps_said = [line for line in said if variant.name in line and "a step" in line]
        assert len(steps_said) == 2 * len(buckets.sizes)
    assert CostProfile.from_json(profile.to_json(), "f") == profile


def test_guidance_that_is_an_input_of_the_model_is_given_to_it(
    tiny_flux_folders: dict[str, Path],
) -> None:
    adapter = load_variant(tiny_flux_folders["tiny-flux"], CPU, torch.float32)
    costs = measure_size(adapter, (32, 32), (2, 4), Gauge(CPU), lambda line: None)
    assert costs.steps.lanes == (2, 4)


def test_a_size_that_a_variant_does_not_make_is_refused(tiny_folders: dict[str, Path]) -> None:
    with pytest.raises(InvalidArgumentError, match="variant tiny-eps .* not 36x32") as caught:
        measure([tiny_folders["tiny-eps"]], (36, 32))
    assert caught.value.field == "sizes"


class Narrow:
    """A variant on a device with memory for so many lanes."""

    def __init__(self, adapter: PipelineAdapter, most: int) -> None:
        self._adapter = adapter
        self._most = most

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    def forward(
        self, latents: torch.Tensor, times: torch.Tensor, texts: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        if len(latents) > self._most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return self._adapter.forward(latents, times, texts)


def test_lanes_that_do_not_fit_are_left_out_and_told(tiny_folders: dict[str, Path]) -> None:
    adapter = load_variant(tiny_folders["tiny-eps"], CPU, torch.float32)
    said: list[str] = []
    costs = measure_size(Narrow(adapter, 2), (32, 32), (1, 2, 4, 8), Gauge(CPU), said.append)
    assert costs.steps.lanes == (1, 2)
    assert len(costs.step_peak_bytes) == len(costs.steps.seconds) == 2
    assert "4 lanes do not fit in memory" in said
    with pytest.raises(ModelError, match="a step of 4 lanes does not fit in memory"):
        measure_size(Narrow(adapter, 2), (32, 32), (4, 8), Gauge(CPU), said.append)
