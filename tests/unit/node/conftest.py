"""A scripted coordinator, and the settings of a node that joins it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from argus.config import Config, NodeConfig
from argus.v1 import cluster_pb2_grpc
from tests.unit.node.scripted import Coordinator


@pytest.fixture
async def coordinator() -> AsyncIterator[tuple[Coordinator, str]]:
    server, servicer = grpc.aio.server(), Coordinator()
    cluster_pb2_grpc.add_ClusterServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield servicer, f"127.0.0.1:{port}"
    await server.stop(0)


@pytest.fixture
def config(coordinator: tuple[Coordinator, str], tiny_folders: dict[str, Path]) -> Config:
    models = (str(tiny_folders["tiny-eps"]),)
    node = NodeConfig(coordinator[1], "n1", models, device="cpu", max_lanes=4, reconnect_s=1.0)
    return Config(node=node)
