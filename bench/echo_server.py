"""A bare grpc.aio server that answers Generate with the messages a coordinator would send.

Nothing is decided, nobody else is asked: what remains is gRPC, protobuf and the event loop.
python bench/echo_server.py prints `listening HOST:PORT` and serves until SIGTERM.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from quick_nodes import VARIANT, picture

from argus.rpc.channel import server_options
from argus.rpc.loop import run
from argus.v1 import image_pb2, image_pb2_grpc


class Echo(image_pb2_grpc.ImageServiceServicer):
    """Answers at once."""

    async def Generate(  # noqa: N802 - gRPC's name
        self, request: image_pb2.GenerateRequest, context: Any
    ) -> AsyncIterator[image_pb2.GenerateResponse]:
        """Send what a coordinator with one quick node would: queued, started, image."""
        request_id = request.request_id
        queued = image_pb2.Queued(ahead=0, predicted_s=1e-4)
        yield image_pb2.GenerateResponse(request_id=request_id, queued=queued)
        started = image_pb2.Started(
            node="quick-0", variant=VARIANT.name, level=VARIANT.name, steps=4, attempt=1
        )
        yield image_pb2.GenerateResponse(request_id=request_id, started=started)
        image = image_pb2.Image(
            data=picture(request.seed),
            format=image_pb2.IMAGE_FORMAT_PNG,
            width=VARIANT.width,
            height=VARIANT.height,
            seed=request.seed,
            variant=VARIANT.name,
            level=VARIANT.name,
            sampler=VARIANT.default_sampler,
            steps=VARIANT.default_steps,
            guidance=VARIANT.default_guidance,
            predicted_quality=1.0,
            node="quick-0",
            max_lanes=1,
            attempts=1,
        )
        yield image_pb2.GenerateResponse(request_id=request_id, image=image)


async def serve(stop: asyncio.Event) -> None:
    """Listen on a free port until `stop` is set."""
    server = grpc.aio.server(options=server_options())
    image_pb2_grpc.add_ImageServiceServicer_to_server(Echo(), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"listening 127.0.0.1:{port}", flush=True)
    await stop.wait()
    await server.stop(1.0)


if __name__ == "__main__":
    run(serve)
