"""The `argus` command with a coordinator and nodes that make no images, for tests of processes.

Run as a script: it puts two small services in the place of the real ones and starts the command.
A node with a `broken` model ends at once, with a `buggy` one by a bug, with a `stubborn` one not
at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from importlib.machinery import ModuleSpec
from typing import Any

import grpc

import argus.cli.children
import argus.cli.ray
from argus.config import Config
from argus.errors import ModelError
from argus.rpc.channel import open_channel
from argus.rpc.server import RpcServer
from argus.v1 import admin_pb2, admin_pb2_grpc, cluster_pb2, cluster_pb2_grpc, image_pb2

ME = (sys.executable, "-P", __file__)


class Coordinator(admin_pb2_grpc.AdminServiceServicer, cluster_pb2_grpc.ClusterServiceServicer):
    """Knows who has joined."""

    def __init__(self) -> None:
        self.members: dict[str, cluster_pb2.NodeHello] = {}

    async def GetStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        return admin_pb2.GetStatusResponse(
            nodes=[admin_pb2.NodeStatus(hello=hello) for hello in self.members.values()],
            variants=[image_pb2.Variant(name="base")],
        )

    async def Join(self, requests: Any, context: Any) -> None:  # noqa: N802
        hello = (await anext(requests)).hello
        self.members[hello.node] = hello
        try:
            async for _ in requests:
                pass
        finally:
            del self.members[hello.node]


async def serve_coordinator(
    config: Config, stop: asyncio.Event, on_ready: Callable[[str], None]
) -> None:
    server, coordinator = RpcServer(), Coordinator()
    server.add(admin_pb2_grpc.add_AdminServiceServicer_to_server, coordinator, "a")
    server.add(cluster_pb2_grpc.add_ClusterServiceServicer_to_server, coordinator, "c")
    on_ready(await server.start(config.coordinator.bind, "coordinator.bind"))
    await stop.wait()
    await server.stop(0)


async def never() -> None:
    await asyncio.Event().wait()


async def serve_node(config: Config, stop: asyncio.Event) -> None:
    if {"broken", "/broken"} & set(config.node.models):
        raise ModelError("broken: no model_index.json")
    if "buggy" in config.node.models:
        raise RuntimeError("nobody foresaw this")
    print("nodes may speak on stdout")
    device = f"{config.node.device} {config.node.threads}"
    hello = cluster_pb2.NodeHello(node=config.node.name, device=device)
    stopped = asyncio.ensure_future(
        stop.wait() if "stubborn" not in config.node.models else never()
    )
    while not stopped.done():
        async with open_channel(config.node.coordinator) as channel:
            call = cluster_pb2_grpc.ClusterServiceStub(channel).Join()
            with contextlib.suppress(grpc.aio.AioRpcError):  # told by `lost` as well
                await call.write(cluster_pb2.JoinRequest(hello=hello))
            lost = asyncio.ensure_future(call.code())
            await asyncio.wait({stopped, lost}, return_when=asyncio.FIRST_COMPLETED)
            call.cancel()
        await asyncio.sleep(0.05)


async def run_crew(
    config: Config,
    count: int | None,
    prepare: object,
    stop: asyncio.Event,
    on_joined: Callable[[list[str]], None],
) -> None:
    """Run nodes in this process: as many as were asked for, or the three there is room for."""
    names = [f"node-{i}" for i in range(count or 3)]
    nodes = [replace(config, node=replace(config.node, name=name)) for name in names]
    running = [asyncio.ensure_future(serve_node(node, stop)) for node in nodes]
    await asyncio.wait(running, timeout=0)
    if not any(node.done() for node in running):
        on_joined(names)
    await asyncio.gather(*running)


def module(name: str, **parts: object) -> None:
    made = types.ModuleType(name)
    made.__dict__.update(parts)
    sys.modules[name] = made


if __name__ == "__main__":
    module("argus.coordinator.serving", serve=serve_coordinator)
    module("argus.node.daemon", serve=serve_node)
    module("argus.ray.crew", run_crew=run_crew, ray_cluster=contextlib.nullcontext)
    argus.cli.ray.find_spec = lambda package: ModuleSpec(package, None)
    argus.cli.children.COMMAND = ME
    argus.cli.children.FIRST_WAIT_S = 0.05
    from argus.cli.main import main

    main()
