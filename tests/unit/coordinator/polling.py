"""Waiting for what another task will bring about."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from argus.coordinator.service import IMAGE_SERVICE
from tests.unit.coordinator.scripted import Coordinated


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait for what another task will bring about."""
    for _ in range(500):
        if holds():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it never came about")


async def eventually_status(cluster: Coordinated, holds: Callable[[Any], bool]) -> Any:
    for _ in range(250):
        if holds(status := await cluster.status()):
            return status
        await asyncio.sleep(0.02)
    return pytest.fail("the status never became as expected")


async def health(cluster: Coordinated, service: str) -> Any:
    stub = health_pb2_grpc.HealthStub(cluster.channel)
    return (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status


SERVING = health_pb2.HealthCheckResponse.SERVING


NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def eventually_health(cluster: Coordinated, wanted: Any) -> None:
    for _ in range(500):
        if await health(cluster, IMAGE_SERVICE) == wanted:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"health never became {wanted}")
