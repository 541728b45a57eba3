"""`make lint` lets the wire grow, and refuses what those in the field would not understand."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUF = ROOT / "build" / "buf" / "node_modules" / ".bin" / "buf"
FIELD = "  // Its name.\n  string node = 1;\n}"
"""Of DrainNodeRequest."""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a copy of the protos and of the wire that is kept."""
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    shutil.copytree(ROOT / "tests" / "wire", tmp_path / "kept")
    return tmp_path


def change(tree: Path, old: str, new: str) -> None:
    file = tree / "proto" / "argus" / "v1" / "admin.proto"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def breaking(tree: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BUF, "breaking", "--against", "kept"], cwd=tree, capture_output=True, text=True
    )


def test_the_wire_as_it_is_keeps_the_promise(tree: Path) -> None:
    assert breaking(tree).returncode == 0


def test_a_field_may_come(tree: Path) -> None:
    change(tree, FIELD, FIELD[:-1] + "  // Why.\n  string reason = 2;\n}")
    assert breaking(tree).returncode == 0


@pytest.mark.parametrize(
    ("new", "said"),
    [
        ("}", 'Previously present field "1" with name "node"'),
        (FIELD.replace("= 1", "= 2"), 'field "1" with name "node"'),
        (FIELD.replace("string", "uint32"), 'from "string" to "uint32"'),
    ],
    ids=["removed", "renumbered", "retyped"],
)
def test_a_field_may_not_go_or_change(tree: Path, new: str, said: str) -> None:
    change(tree, FIELD, new)
    result = breaking(tree)
    assert result.returncode != 0
    assert said in result.stdout
