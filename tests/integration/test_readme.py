"""What the README tells people to type works."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from local_cluster import LocalCluster
from PIL import Image

README = Path(__file__).parents[2] / "README.md"

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def block(name: str) -> str:
    found = re.search(rf"<!-- tested: {name} -->\n```\w+\n(.*?)```", README.read_text(), re.S)
    assert found, name
    return found[1]


def test_commands(bundled: LocalCluster, tmp_path: Path) -> None:
    lines = block("commands").strip().splitlines()
    assert len(lines) >= 4
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "argus"
        said = subprocess.run(
            [sys.executable, "-P", "-m", "argus.cli.main", *arguments]
            + ["--server", bundled.address],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert said.returncode == 0, (line, said.stderr)
        if "--json" in arguments:
            assert json.loads(said.stdout)["variant"]
    assert Image.open(tmp_path / "circle.png").size == (64, 64)
    assert (tmp_path / "small.png").exists()
    assert (tmp_path / "triangles.png").exists()


def test_python(bundled: LocalCluster, tmp_path: Path) -> None:
    code = block("python").replace("127.0.0.1:7420", bundled.address)
    said = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert said.stdout.startswith("scenes-base ")
    assert (tmp_path / "circle.png").exists()
