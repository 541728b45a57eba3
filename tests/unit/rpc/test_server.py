"""Servers listen, say how they are, tolerate pings, and end in order."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from argus.errors import ConfigError, UnavailableError
from argus.rpc.address import format_address, parse_address
from argus.rpc.channel import (
    MAX_MESSAGE_BYTES,
    channel_options,
    open_blocking_channel,
    open_channel,
)
from argus.rpc.gate import Gate
from argus.rpc.server import RpcServer
from argus.v1 import image_pb2, image_pb2_grpc
from tests.unit.rpc.stalled import stalled_watch

SERVICE = "argus.v1.ImageService"
LOOPBACK = "127.0.0.1:0"


class Images(image_pb2_grpc.ImageServiceServicer):
    """Answers with as many bytes as the prompt says, after as many seconds as the sampler says."""

    async def Generate(self, request: image_pb2.GenerateRequest, context: Any) -> Any:  # noqa: N802
        await asyncio.sleep(float(request.sampler or 0))
        yield image_pb2.GenerateResponse(image=image_pb2.Image(data=bytes(int(request.prompt))))


def image_server(keepalive_s: float = 20.0) -> RpcServer:
    server = RpcServer(keepalive_s)
    server.add(image_pb2_grpc.add_ImageServiceServicer_to_server, Images(), SERVICE)
    return server


async def bytes_of(channel: grpc.aio.Channel, size: int, after_s: float = 0) -> int:
    call = image_pb2_grpc.ImageServiceStub(channel).Generate(
        image_pb2.GenerateRequest(prompt=str(size), sampler=str(after_s))
    )
    return len([answer async for answer in call][0].image.data)


async def health_of(channel: grpc.aio.Channel, service: str) -> str:
    answer = await health_pb2_grpc.HealthStub(channel).Check(
        health_pb2.HealthCheckRequest(service=service)
    )
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


async def test_an_image_near_the_limit_fits_in_one_message() -> None:
    server = image_server()
    address = await server.start(LOOPBACK, "test.bind")
    size = MAX_MESSAGE_BYTES - 1024
    async with open_channel(address) as channel:
        assert await bytes_of(channel, size) == size
    await server.stop(0)


async def test_the_blocking_channel_has_the_same_limits() -> None:
    server = image_server()
    address = await server.start(LOOPBACK, "test.bind")

    def call() -> int:
        with open_blocking_channel(address) as channel:
            stub = image_pb2_grpc.ImageServiceStub(channel)
            (answer,) = stub.Generate(image_pb2.GenerateRequest(prompt=str(8 * 2**20)))
            return len(answer.image.data)

    assert await asyncio.to_thread(call) == 8 * 2**20
    await server.stop(0)


async def test_port_zero_gives_the_real_port_and_ipv6_stands_in_brackets() -> None:
    server = image_server()
    address = await server.start("[::1]:0", "test.bind")
    host, port = parse_address(address, "test")
    assert host == "::1"
    assert port > 0
    await server.stop(0)


async def test_a_port_in_use_is_one_readable_line() -> None:
    first, second = image_server(), image_server()
    address = await first.start(LOOPBACK, "coordinator.bind")
    with pytest.raises(ConfigError) as caught:
        await second.start(address, "coordinator.bind")
    assert str(caught.value) == (
        f"coordinator.bind: cannot listen on {address}: address already in use"
    )
    await first.stop(0)


async def test_losing_the_port_between_probe_and_bind_is_still_readable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = image_server(), image_server()
    address = await first.start(LOOPBACK, "test.bind")
    monkeypatch.setattr("argus.rpc.server._try_to_bind", lambda host, port: None)
    with pytest.raises(ConfigError, match=f"test.bind: cannot listen on {address}"):
        await second.start(address, "test.bind")
    await first.stop(0)


async def test_a_port_is_free_again_at_once() -> None:
    first, second = image_server(), image_server()
    address = await first.start(LOOPBACK, "test.bind")
    async with open_channel(address) as channel:
        await bytes_of(channel, 1)
        await first.stop(0)
        assert await second.start(address, "test.bind") == address
    await second.stop(0)


@pytest.mark.parametrize(
    ("bind", "reason"),
    [
        ("127.0.0.1", "must be HOST:PORT"),
        (":7420", "must be HOST:PORT"),
        ("h:", "must be HOST:PORT"),
        ("h:x", "must be HOST:PORT"),
        ("h:65536", "must be HOST:PORT"),
        ("h:-1", "must be HOST:PORT"),
        ("::1:7420", "must be HOST:PORT"),
        ("192.0.2.1:0", "cannot assign requested address"),
        ("no-such-host.invalid:0", "cannot listen on no-such-host.invalid:0: "),
    ],
)
async def test_an_address_that_cannot_be_used_names_the_setting(bind: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        await image_server().start(bind, "coordinator.bind")
    assert str(caught.value).startswith("coordinator.bind: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_addresses_round_trip() -> None:
    for text in ("127.0.0.1:7420", "[::1]:0", "host.example:65535"):
        assert format_address(*parse_address(text, "x")) == text


async def test_health_is_told_for_each_service() -> None:
    server = image_server()
    async with open_channel(await server.start(LOOPBACK, "test.bind")) as channel:
        assert await health_of(channel, "") == "SERVING"
        assert await health_of(channel, SERVICE) == "NOT_SERVING"
        await server.set_serving(SERVICE, True)
        assert await health_of(channel, SERVICE) == "SERVING"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health_of(channel, "nope")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    await server.stop(0)


async def test_who_watches_health_and_takes_nothing_delays_nobody() -> None:
    server = image_server()
    address = await server.start(LOOPBACK, "test.bind")
    asked = health_pb2.HealthCheckRequest(service=SERVICE)
    watching = stalled_watch(address, SERVICE)
    async with watching, open_channel(address) as channel, asyncio.timeout(5):
        await server.set_serving(SERVICE, True)
        assert await health_of(channel, SERVICE) == "SERVING"
        watch = health_pb2_grpc.HealthStub(channel).Watch(asked)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        await server.set_serving(SERVICE, False)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        await server.stop(0)


async def test_reflection_lists_the_services() -> None:
    server = image_server()
    async with open_channel(await server.start(LOOPBACK, "test.bind")) as channel:
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        )
        (answer,) = [answer async for answer in call]
    names = {service.name for service in answer.list_services_response.service}
    assert {SERVICE, "grpc.health.v1.Health"} <= names
    await server.stop(0)


async def test_stopping_says_not_serving_then_waits_for_running_calls() -> None:
    server = image_server()
    async with open_channel(await server.start(LOOPBACK, "test.bind")) as channel:
        await server.set_serving(SERVICE, True)
        watch = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(service=SERVICE)
        )
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        running = asyncio.create_task(bytes_of(channel, 10, after_s=0.3))
        await asyncio.sleep(0.1)
        stopping = asyncio.create_task(server.stop(5))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()
        assert await running == 10
        await stopping
        await server.wait_stopped()


async def pinged_call_code(server_address: str, for_s: float) -> grpc.StatusCode:
    """Return how a silent call of `for_s` seconds ends on a channel that pings every 100 ms."""
    options = channel_options(keepalive_s=0.1)
    async with grpc.aio.insecure_channel(server_address, options=options) as channel:
        try:
            await bytes_of(channel, 1, after_s=for_s)
        except grpc.aio.AioRpcError as error:
            return error.code()
    return grpc.StatusCode.OK


async def test_pings_of_a_silent_client_are_tolerated() -> None:
    ours = image_server(keepalive_s=0.1)
    address = await ours.start(LOOPBACK, "test.bind")
    usual = grpc.aio.server()
    image_pb2_grpc.add_ImageServiceServicer_to_server(Images(), usual)
    usual_port = usual.add_insecure_port(LOOPBACK)
    await usual.start()

    tolerated, refused = await asyncio.gather(
        pinged_call_code(address, 6), pinged_call_code(f"127.0.0.1:{usual_port}", 6)
    )

    assert tolerated is grpc.StatusCode.OK
    assert refused is grpc.StatusCode.UNAVAILABLE, "gRPC's default would tolerate them as well"
    await asyncio.gather(ours.stop(0), usual.stop(0))


async def test_a_server_whose_gate_is_shut_serves_nothing_in_that_very_moment() -> None:
    shut: list[str] = []

    def check() -> None:
        if shut:
            raise UnavailableError("shut")

    server = RpcServer(gate=Gate(check))
    server.add(image_pb2_grpc.add_ImageServiceServicer_to_server, Images(), SERVICE)
    address = await server.start(LOOPBACK, "test.bind")
    for service in (SERVICE, ""):
        await server.set_serving(service, True)
    async with open_channel(address) as channel:
        assert await health_of(channel, SERVICE) == await health_of(channel, "") == "SERVING"
        assert await bytes_of(channel, 9) == 9
        shut.append("now")
        assert await health_of(channel, SERVICE) == await health_of(channel, "") == "NOT_SERVING"
        with pytest.raises(grpc.aio.AioRpcError, match="shut"):
            await bytes_of(channel, 9)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health_of(channel, "nope")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        shut.clear()
        assert await health_of(channel, SERVICE) == "SERVING"
    await server.stop(0)
