"""A scripted server, and commands in this process, for each test that asks for them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.unit.cli.running import Here
from tests.unit.client.scripted import Scripted, scripted_server


@pytest_asyncio.fixture
async def scripted() -> AsyncGenerator[Scripted, None]:
    async with scripted_server() as server:
        yield server


@pytest.fixture
def here(
    capfdbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Here:
    monkeypatch.chdir(tmp_path)
    return Here(capfdbinary, monkeypatch)
