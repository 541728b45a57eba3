"""Live pictures compared with the reference level's, on real processes and the bundled family."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from local_cluster import LocalCluster

from argus.client import Client
from argus.models.captions import parse_caption
from argus.models.verifier import verify
from argus.quality.live import live_files
from argus.v1 import admin_pb2

from .conftest import argus, pixels

pytestmark = pytest.mark.integration
PROMPT = "a large red circle on a white background"
REFERENCE, LOW, STEPS = "base", "base-fifth", 5
"""Of five steps the low level runs one, from which a picture is not the same."""
PATIENCE_S = 300.0
"""What scores pictures runs at the lowest priority: it waits while other tests have the cores."""


def until(client: Client, holds: Callable[[Any], bool]) -> admin_pb2.QualityStatus:
    end_s = time.monotonic() + PATIENCE_S
    while not holds(quality := client.status().quality):
        assert time.monotonic() < end_s, quality
        time.sleep(0.05)
    return quality


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("quality")


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    file = folder / "argus.toml"
    file.write_text(f'[quality]\nshadow_share = 1.0\nlive_folder = "{folder / "live"}"\n')
    flags = ["--config", str(file), "--threads", "1", "--cache", "off", "--max-lanes", "2"]
    with LocalCluster(1, flags) as cluster:
        yield cluster.address


def test_a_low_picture_is_compared_when_nobody_waits_and_not_before(
    address: str, folder: Path
) -> None:
    with Client(address) as client:
        # With two lanes one guided row fills the node.
        busy = threading.Event()

        def keep_busy() -> None:
            client.generate(PROMPT, seed=1, steps=60, on_event=lambda event: busy.set())

        long = threading.Thread(target=keep_busy)
        low = client.generate(PROMPT, seed=7, steps=STEPS, level=LOW)
        long.start()
        assert busy.wait(PATIENCE_S)
        while long.is_alive():
            status = client.status()
            if status.in_flight and long.is_alive():
                assert status.quality.compared == 0
            time.sleep(0.05)
        quality = until(client, lambda q: q.compared == 1)
        assert (quality.sampled, quality.failed, quality.trouble) == (1, 0, "")
        reference = client.generate(PROMPT, seed=7, steps=STEPS, level=REFERENCE)
        assert client.status().counters.answered == 3
    facts = parse_caption(PROMPT)
    assert facts is not None
    scores = [verify(pixels(image.data), facts).score for image in (reference, low)]
    (file,) = live_files(folder / "live")
    rows = [json.loads(line) for line in file.read_text().splitlines()[1:]]
    assert [row["level"] for row in rows] == [REFERENCE, LOW]
    assert [row["scores"]["facts"] for row in rows] == pytest.approx(scores)
    expected = scores[1] / scores[0] - low.predicted_quality
    assert quality.residual == pytest.approx(expected)


def test_operators_see_it(address: str) -> None:
    shown = argus("status", "--server", address)
    assert "1 of 1 sampled pictures compared by facts" in " ".join(shown.stdout.split())
