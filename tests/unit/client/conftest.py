"""A scripted server for each test that asks for one."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest_asyncio

from tests.unit.client.scripted import Scripted, scripted_server


@pytest_asyncio.fixture
async def scripted() -> AsyncGenerator[Scripted, None]:
    async with scripted_server() as server:
        yield server
