"""Fixtures that several kinds of tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from local_postgres import LocalPostgres

# Tests and their child processes share the cores: threads of one computation that wait for each
# other there take many times as long. Read when numpy and torch are imported, so set before.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# `make test-browser` and `make test-ray` install what these need.
EXTRAS = {"browser": "playwright", "ray": "ray"}
collect_ignore = [folder for folder, package in EXTRAS.items() if not find_spec(package)]


@pytest.fixture(scope="session")
def postgres() -> Iterator[LocalPostgres]:
    """A real PostgreSQL with nothing in it."""
    server = LocalPostgres()
    yield server
    server.close()


@pytest.fixture(scope="session")
def tiny_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two random pipelines of different width, one predicting noise, one velocity."""
    # Imported here: tests that need no model should not wait for torch.
    import tiny_models
    import torch

    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("models")
    return {
        "tiny-eps": tiny_models.save_tiny_sd(root / "tiny-eps", 1, "epsilon"),
        "tiny-v": tiny_models.save_tiny_sd(root / "tiny-v", 2, "v_prediction", width=24),
    }


@pytest.fixture(scope="session")
def tiny_xl_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two random SDXL pipelines: an empty negative prompt as zeros, and encoded."""
    import tiny_models

    root = tmp_path_factory.mktemp("models-xl")
    return {
        "tiny-xl": tiny_models.save_tiny_sdxl(root / "tiny-xl", 3),
        "tiny-xl-coded": tiny_models.save_tiny_sdxl(
            root / "tiny-xl-coded", 4, zero_empty_negative=False
        ),
    }


@pytest.fixture(scope="session")
def tiny_sd3_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two random SD3 pipelines: with T5, and without it under a schedule that shifts with size."""
    import tiny_models

    root = tmp_path_factory.mktemp("models-sd3")
    return {
        "tiny-sd3": tiny_models.save_tiny_sd3(root / "tiny-sd3", 5),
        "tiny-sd3-no-t5": tiny_models.save_tiny_sd3(
            root / "tiny-sd3-no-t5", 6, t5=False, use_dynamic_shifting=True
        ),
    }


@pytest.fixture(scope="session")
def tiny_flux_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two random FLUX pipelines: guided under a schedule that shifts with size, and as schnell."""
    import tiny_models

    root = tmp_path_factory.mktemp("models-flux")
    return {
        "tiny-flux": tiny_models.save_tiny_flux(
            root / "tiny-flux", 8, use_dynamic_shifting=True, shift=3.0
        ),
        "tiny-flux-fast": tiny_models.save_tiny_flux(root / "tiny-flux-fast", 9, guidance=False),
    }
