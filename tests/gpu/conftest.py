"""What needs a CUDA device, skipped with the reason where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder as a gpu test, and skip it without a device."""
    for item in items:
        if HERE not in item.path.parents:
            continue
        item.add_marker(pytest.mark.gpu)
        if not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and there is none here"))


@pytest.fixture(scope="session")
def device() -> torch.device:
    """The first CUDA device, told to compute in float32 where float32 is asked for."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda", 0)


@pytest.fixture(scope="session")
def folders(
    tiny_folders: dict[str, Path],
    tiny_xl_folders: dict[str, Path],
    tiny_sd3_folders: dict[str, Path],
    tiny_flux_folders: dict[str, Path],
) -> dict[str, Path]:
    """One tiny random folder of each family, by its pipeline class."""
    return {
        "StableDiffusionPipeline": tiny_folders["tiny-eps"],
        "StableDiffusionXLPipeline": tiny_xl_folders["tiny-xl"],
        "StableDiffusion3Pipeline": tiny_sd3_folders["tiny-sd3"],
        "FluxPipeline": tiny_flux_folders["tiny-flux"],
    }


@pytest.fixture(autouse=True)
def _no_failed_device() -> Iterator[None]:
    """Let a test's own asynchronous failure show in that test, not in the next."""
    yield
    if torch.cuda.is_available():
        torch.cuda.synchronize()
