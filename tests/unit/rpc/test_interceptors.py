"""Handlers raise; clients see status with details. Over real channels."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio

from argus.errors import ArgusError, InvalidArgumentError, OverloadedError
from argus.rpc.channel import open_channel
from argus.rpc.server import RpcServer
from argus.rpc.status import from_rpc_error
from argus.rpc.utf8 import explain
from argus.v1 import cluster_pb2, cluster_pb2_grpc, image_pb2, image_pb2_grpc

GENERATE = "/argus.v1.ImageService/Generate"
LIST = "/argus.v1.ImageService/ListVariants"
JOIN = "/argus.v1.ClusterService/Join"


class Images(image_pb2_grpc.ImageServiceServicer):
    """Does what the prompt says."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.listing: Exception | None = None

    async def Generate(  # noqa: N802
        self, request: image_pb2.GenerateRequest, context: Any
    ) -> AsyncIterator[image_pb2.GenerateResponse]:
        yield image_pb2.GenerateResponse(request_id="1")
        try:
            if request.prompt == "full":
                raise OverloadedError("full", 3.0)
            if request.prompt == "bug":
                raise RuntimeError("secret")
            if request.prompt == "abort":
                await context.abort(grpc.StatusCode.DATA_LOSS, "by hand")
            if request.prompt == "hang":
                await asyncio.sleep(3600)
            while request.prompt == "flood":
                yield image_pb2.GenerateResponse(request_id="x" * 100_000)
        finally:
            self.ended.set()

    async def ListVariants(self, request: Any, context: Any) -> Any:  # noqa: N802
        if self.listing is not None:
            raise self.listing
        return image_pb2.ListVariantsResponse()


class Cluster(cluster_pb2_grpc.ClusterServiceServicer):
    """A coroutine handler that reads and writes by itself."""

    async def Join(self, requests: AsyncIterator[Any], context: Any) -> None:  # noqa: N802
        async for request in requests:
            if request.hello.node == "taken":
                raise OverloadedError("taken", 1.0)
            await context.write(cluster_pb2.JoinResponse(welcome=cluster_pb2.Welcome(lease_s=3)))


@pytest_asyncio.fixture
async def images() -> Images:
    return Images()


@pytest_asyncio.fixture
async def channel(images: Images) -> AsyncGenerator[grpc.aio.Channel, None]:
    server = RpcServer()
    server.add(image_pb2_grpc.add_ImageServiceServicer_to_server, images, "argus.v1.ImageService")
    server.add(
        cluster_pb2_grpc.add_ClusterServiceServicer_to_server, Cluster(), "argus.v1.ClusterService"
    )
    async with open_channel(await server.start("127.0.0.1:0", "test.bind")) as opened:
        yield opened
    await server.stop(0)


async def generate(channel: grpc.aio.Channel, prompt: str) -> list[image_pb2.GenerateResponse]:
    stub = image_pb2_grpc.ImageServiceStub(channel)
    return [answer async for answer in stub.Generate(image_pb2.GenerateRequest(prompt=prompt))]


async def failure_of(call: Any) -> tuple[grpc.StatusCode, ArgusError]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), from_rpc_error(caught.value)


async def test_answers_pass(channel: grpc.aio.Channel) -> None:
    assert [a.request_id for a in await generate(channel, "fine")] == ["1"]
    await image_pb2_grpc.ImageServiceStub(channel).ListVariants(image_pb2.ListVariantsRequest())


async def test_an_error_in_a_stream_keeps_its_details(channel: grpc.aio.Channel) -> None:
    code, error = await failure_of(generate(channel, "full"))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert isinstance(error, OverloadedError)
    assert error.retry_after_s == 3.0


async def test_an_error_of_a_single_answer_keeps_its_details(
    channel: grpc.aio.Channel, images: Images
) -> None:
    images.listing = InvalidArgumentError("page", "too far")
    stub = image_pb2_grpc.ImageServiceStub(channel)
    _, error = await failure_of(stub.ListVariants(image_pb2.ListVariantsRequest()))
    assert isinstance(error, InvalidArgumentError)
    assert (error.field, error.description) == ("page", "too far")


async def test_a_bug_is_logged_here_and_hidden_there(
    channel: grpc.aio.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "argus"):
        code, error = await failure_of(generate(channel, "bug"))
    assert code is grpc.StatusCode.INTERNAL
    assert "secret" not in str(error)
    assert "RuntimeError: secret" in caplog.text
    assert GENERATE in caplog.text


async def test_an_abort_by_hand_passes(channel: grpc.aio.Channel) -> None:
    code, _ = await failure_of(generate(channel, "abort"))
    assert code is grpc.StatusCode.DATA_LOSS


@pytest.mark.parametrize("prompt", ["hang", "flood"])
async def test_cancelling_ends_the_handler_and_logs_nothing(
    channel: grpc.aio.Channel, images: Images, prompt: str, caplog: pytest.LogCaptureFixture
) -> None:
    call = image_pb2_grpc.ImageServiceStub(channel).Generate(
        image_pb2.GenerateRequest(prompt=prompt)
    )
    await call.read()
    call.cancel()
    await asyncio.wait_for(images.ended.wait(), 5)
    assert "argus" not in caplog.text


async def test_a_coroutine_handler_with_a_stream_of_requests(channel: grpc.aio.Channel) -> None:
    call = cluster_pb2_grpc.ClusterServiceStub(channel).Join()
    await call.write(cluster_pb2.JoinRequest(hello=cluster_pb2.NodeHello(node="a")))
    assert (await call.read()).welcome.lease_s == 3
    await call.write(cluster_pb2.JoinRequest(hello=cluster_pb2.NodeHello(node="taken")))
    _, error = await failure_of(call.read())
    assert isinstance(error, OverloadedError)


NOT_UTF8 = b"\xff\xfe"


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b"\x12\x02" + NOT_UTF8, "prompt"),
        (b"\x12\x01a\x1a\x02" + NOT_UTF8, "negative_prompt"),
        (b"\x12\x01a\x5a\x02" + NOT_UTF8, "level"),
        (b"\x12\x7fa", "request"),
    ],
)
async def test_bytes_that_are_not_utf8_name_the_field(
    channel: grpc.aio.Channel, data: bytes, field: str
) -> None:
    async def call() -> None:
        async for _ in channel.unary_stream(GENERATE)(data):
            pass

    code, error = await failure_of(call())
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert isinstance(error, InvalidArgumentError)
    assert error.field == field


async def test_malformed_single_requests_are_refused(channel: grpc.aio.Channel) -> None:
    code, error = await failure_of(channel.unary_unary(LIST)(b"\x0a\x7f"))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert LIST in str(error)


async def test_malformed_messages_in_a_stream_name_the_inner_field(
    channel: grpc.aio.Channel,
) -> None:
    call = channel.stream_stream(JOIN)()
    await call.write(b"\x0a\x04\x0a\x02" + NOT_UTF8)
    code, error = await failure_of(call.read())
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert isinstance(error, InvalidArgumentError)
    assert error.field == "hello.node"


async def test_an_unknown_method_is_unimplemented(channel: grpc.aio.Channel) -> None:
    code, _ = await failure_of(channel.unary_unary("/argus.v1.ImageService/Nope")(b""))
    assert code is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("method", ["/not.known/Here", LIST])
def test_bytes_that_nothing_is_known_about_are_a_bad_request(method: str) -> None:
    error = explain(b"\x0a\x02" + NOT_UTF8, method)
    assert (error.field, method in error.description) == ("request", True)
