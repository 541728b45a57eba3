"""What an adapter gives as a step table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from argus.diffusion.adapter import load_variant
from argus.errors import InvalidArgumentError

CPU = torch.device("cpu")


def test_adapters_pass_on_the_steps_kept_and_keep_tables_by_them(
    tiny_folders: dict[str, Path], tiny_sd3_folders: dict[str, Path]
) -> None:
    for folder in (tiny_folders["tiny-eps"], tiny_sd3_folders["tiny-sd3"]):
        adapter = load_variant(folder, CPU, torch.float32)
        sampler = adapter.info.default_sampler
        whole = adapter.step_table(sampler, 10, 32, 32)
        late = adapter.step_table(sampler, 10, 32, 32, kept=(4, 5, 6, 7, 8, 9))
        assert late.steps == (4, 5, 6, 7, 8, 9)
        np.testing.assert_allclose(late.updates, whole.updates[4:], atol=1e-12)
        assert adapter.step_table(sampler, 10, 32, 32, kept=(4, 5, 6, 7, 8, 9)) is late
        assert adapter.step_table(sampler, 10, 32, 32) is whole


def test_adapters_pass_on_eta_where_the_sampler_knows_it(
    tiny_folders: dict[str, Path], tiny_sd3_folders: dict[str, Path]
) -> None:
    adapter = load_variant(tiny_folders["tiny-eps"], CPU, torch.float32)
    assert adapter.step_table("ddim", 10, 32, 32, eta=0.5).draws_noise
    assert not adapter.step_table("ddim", 10, 32, 32).draws_noise
    flow = load_variant(tiny_sd3_folders["tiny-sd3"], CPU, torch.float32)
    with pytest.raises(InvalidArgumentError, match="eta: must be 0"):
        flow.step_table("flow_euler", 10, 32, 32, eta=0.5)
