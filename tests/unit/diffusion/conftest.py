"""Fixtures of changed model folders."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def configured(tmp_path: Path) -> Callable[..., Path]:
    """Copies a folder and changes values of one of its JSON files."""

    def copy(folder: Path, file: str, **changes: Any) -> Path:
        target = tmp_path / folder.name
        shutil.copytree(folder, target)
        values = json.loads((target / file).read_text()) | changes
        (target / file).write_text(json.dumps(values))
        return target

    return copy
