"""What docs/sdk.md and docs/gateway.md tell people to write works."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from local_cluster import LocalCluster
from PIL import Image

from .snippets import run_snippet, snippets

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture
def addresses(bundled: LocalCluster) -> dict[str, str]:
    return {"127.0.0.1:7420": bundled.address, "127.0.0.1:7421": bundled.http}


def test_the_sdk_page(bundled: LocalCluster, addresses: dict[str, str], tmp_path: Path) -> None:
    page = snippets("sdk.md")
    said = {name: run_snippet(code, tmp_path, addresses) for name, code in page.items()}
    assert set(said) >= {"one", "progress", "several", "many", "asyncio", "errors", "retries"}
    assert Image.open(tmp_path / "circle.png").size == (64, 64)
    assert Image.open(tmp_path / "preview.jpg").format == "JPEG"
    assert "step 1 of " in said["progress"]
    assert {p.name for p in tmp_path.glob("ring-*.png")} == {f"ring-{n}.png" for n in (7, 8, 9)}
    assert {p.name for p in tmp_path.glob("many-*.png")} == {"many-0.png", "many-2.png"}
    assert said["many"].startswith("1: prompt: ")
    assert said["errors"].startswith("size\n")
    assert len(said["asyncio"].splitlines()) == 2
    assert said["cluster"].splitlines()[-1].startswith("1 nodes, ")


def test_the_gateway_page(bundled: LocalCluster, addresses: dict[str, str], tmp_path: Path) -> None:
    page = snippets("gateway.md")
    run_snippet(page["openai"], tmp_path, addresses)
    assert {p.name for p in tmp_path.glob("*.png")} == {"circle-7.png", "circle-8.png"}
    said = run_snippet(page["curl"], tmp_path, addresses)
    assert Image.open(tmp_path / "circle.png").format == "PNG"
    assert said.count("event: image_generation.partial_image") == 2
    assert said.count("event: image_generation.completed") == 1
    models = json.loads(said.splitlines()[-1])
    assert [model["id"] for model in models["data"]] == ["scenes-base", "scenes-small"]
