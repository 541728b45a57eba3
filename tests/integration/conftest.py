"""Real clusters of real processes on loopback."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from local_cluster import LocalCluster
from PIL import Image


def pixels(data: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def argus(*arguments: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user would and return what it said."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "argus.cli.main", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


LEAN = ("--threads", "1", "--max-lanes", "4")
"""Two threads on shared cores wait for each other; four lanes are two guided rows."""


@pytest.fixture(scope="session")
def model_flags(tiny_folders: dict[str, Path]) -> list[str]:
    models = [part for folder in tiny_folders.values() for part in ("--model", str(folder))]
    return [*models, *LEAN]


@pytest.fixture(scope="session")
def cluster(model_flags: list[str]) -> Iterator[LocalCluster]:
    """Two nodes with two tiny random pipelines, shared by the tests that break nothing."""
    with LocalCluster(2, model_flags) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def bundled() -> Iterator[LocalCluster]:
    """One node with the bundled models, and a gateway; shared by the tests that break nothing."""
    # Few lanes, since warming up measures each number of them; one thread, since several that wait
    # for each other crawl where cores are shared.
    extra = ["--max-lanes", "2", "--threads", "1"]
    with LocalCluster(1, extra, ready_timeout_s=600, http=True) as cluster:
        yield cluster
