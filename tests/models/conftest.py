"""Shared pieces of the tests of the bundled family."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from argus.models.scenes import Scene, render, scene_at


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def scenes() -> list[Scene]:
    """Sixty scenes from both sides of the split."""
    return [scene_at(11, i, held_out=i % 2 == 0) for i in range(60)]


@pytest.fixture(scope="session")
def pictures(scenes: list[Scene]) -> NDArray[np.uint8]:
    """The scenes drawn, (60, 64, 64, 3) uint8."""
    return (render(scenes, 64) * 255).round().byte().permute(0, 2, 3, 1).numpy()
