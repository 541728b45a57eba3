"""Everything here wants tools that `make test-deploy` installs."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TOOLS = ("compose_spec", "helm_python", "kubernetes_validate")
collect_ignore_glob = [] if all(find_spec(tool) for tool in TOOLS) else ["test_*.py"]
"""Without the tools even the imports fail; `make test-deploy` then finds nothing, and fails."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.deploy)
