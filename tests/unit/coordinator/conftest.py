"""Every test of this folder must leave no task running."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.unit.coordinator.polling import eventually


@pytest.fixture(autouse=True)
async def nothing_is_left_running() -> Any:
    before = asyncio.all_tasks()
    yield
    await eventually(lambda: asyncio.all_tasks() <= before | {asyncio.current_task()})
