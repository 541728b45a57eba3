"""A server that plays a script: what the coordinator's clients see, without a coordinator."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import PIL.Image

from argus.errors import ArgusError, FailedPreconditionError, NotFoundError
from argus.rpc.bundles import bundle
from argus.rpc.convert import image_request_from_proto
from argus.rpc.server import RpcServer
from argus.types import ImageRequest
from argus.v1 import admin_pb2, admin_pb2_grpc, cluster_pb2, image_pb2, image_pb2_grpc

IMAGE_SERVICE = "argus.v1.ImageService"
ADMIN_SERVICE = "argus.v1.AdminService"


def png(color: str = "red") -> bytes:
    file = io.BytesIO()
    PIL.Image.new("RGB", (8, 8), color).save(file, "png")
    return file.getvalue()


PNG = png()
VARIANT = image_pb2.Variant(
    name="base",
    pipeline="StableDiffusionPipeline",
    width=32,
    height=32,
    size_multiple=8,
    max_size=64,
    samplers=["ddim", "euler"],
    default_sampler="ddim",
    default_steps=50,
    default_guidance=5.0,
    levels=["base", "base-25"],
    nodes=["node-0"],
)
STATUS = admin_pb2.GetStatusResponse(
    argus_version="0.1.0",
    uptime_s=61.0,
    nodes=[
        admin_pb2.NodeStatus(
            hello=cluster_pb2.NodeHello(
                node="node-0", device="cpu", slots=16, max_lanes=8,
                memory_bytes=80 * 2**30,
                variants=[cluster_pb2.ResidentVariant(variant=VARIANT)],
            ),
            heartbeat=cluster_pb2.Heartbeat(sequence=3, rows=2, lanes=4, peak_lanes=6),
        )
    ],
    variants=[VARIANT],
    levels=[admin_pb2.LevelStatus(name="base", variant="base", steps_fraction=1.0, quality=1.0)],
    capacity=1024,
    counters=admin_pb2.Counters(accepted=3, answered=2),
)  # fmt: skip


def image_of(request: ImageRequest) -> image_pb2.Image:
    return image_pb2.Image(
        data=PNG,
        format=image_pb2.IMAGE_FORMAT_PNG,
        width=request.width or 32,
        height=request.height or 32,
        seed=5 if request.seed is None else request.seed,
        variant=request.variant or "base",
        level=request.level or "base",
        sampler=request.sampler or "ddim",
        steps=request.steps or 50,
        guidance=5.0 if request.guidance is None else request.guidance,
        predicted_quality=1.0,
        node="node-0",
        queued_s=0.25,
        running_s=0.5,
        total_s=0.75,
        max_lanes=4,
        attempts=1,
    )


@dataclass
class ImageScript(image_pb2_grpc.ImageServiceServicer):
    """Validates as the real service does, then plays the script.

    `failures` are raised by the first calls, one each; then come the usual events. `loss` is
    raised once, after a request was accepted, and before any failures. A prompt
    of "slow" never ends, "wait 0.5" sleeps so many seconds before its image, "nothing" has none.
    """

    failures: list[ArgusError] = field(default_factory=list)
    loss: ArgusError | None = None
    received: list[image_pb2.GenerateRequest] = field(default_factory=list)
    timeouts_s: list[float | None] = field(default_factory=list)
    running: int = 0
    most_running: int = 0
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    async def Generate(  # noqa: N802
        self, request: image_pb2.GenerateRequest, context: object
    ) -> AsyncGenerator[image_pb2.GenerateResponse, None]:
        self.received.append(request)
        self.timeouts_s.append(context.time_remaining())
        if self.loss is not None:
            loss, self.loss = self.loss, None
            accepted = image_pb2.Queued(ahead=1)
            yield image_pb2.GenerateResponse(request_id=request.request_id, queued=accepted)
            raise loss
        if self.failures:
            raise self.failures.pop(0)
        wanted = image_request_from_proto(request)
        if wanted.variant not in {"", "base"}:
            raise NotFoundError("variant", wanted.variant, ["base", "small"])
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        finished = False
        waiting: list[image_pb2.GenerateResponse] = []
        try:
            async for event in self._events(wanted):
                if wanted.prompt != "bundles":
                    yield event
                    continue
                assert request.reads_bundles
                waiting.append(event)
                if event.HasField("queued") or event.HasField("image"):
                    yield bundle(waiting)
                    waiting = []
            finished = True
        finally:
            self.running -= 1
            if not finished:
                self.cancelled.set()

    async def _events(
        self, wanted: ImageRequest
    ) -> AsyncGenerator[image_pb2.GenerateResponse, None]:
        def event(**kind: object) -> image_pb2.GenerateResponse:
            return image_pb2.GenerateResponse(request_id=wanted.request_id, **kind)

        steps = wanted.steps or 50
        yield event(queued=image_pb2.Queued(ahead=1, predicted_s=0.5))
        yield event(
            started=image_pb2.Started(
                node="node-0", variant="base", level="base", steps=steps, attempt=1
            )
        )
        yield event(warning=image_pb2.Warning(code="PROMPT_TRUNCATED", message="cut"))
        yield event()  # a kind of event from the future
        for step in range(1, min(steps, 3) + 1):
            yield event(step=image_pb2.StepProgress(step=step, steps=steps, lanes=4))
        yield event(preview=image_pb2.Preview(step=3, data=b"jpeg"))
        if wanted.prompt == "slow":
            await asyncio.sleep(3600)
        elif wanted.prompt.startswith("wait "):
            await asyncio.sleep(float(wanted.prompt.removeprefix("wait ")))
        elif wanted.prompt == "nothing":
            return
        yield event(image=image_of(wanted))

    async def ListVariants(  # noqa: N802
        self, request: image_pb2.ListVariantsRequest, context: object
    ) -> image_pb2.ListVariantsResponse:
        if self.failures:
            raise self.failures.pop(0)
        return image_pb2.ListVariantsResponse(variants=[VARIANT])


@dataclass
class AdminScript(admin_pb2_grpc.AdminServiceServicer):
    """One node, which can be drained."""

    drained: list[str] = field(default_factory=list)
    moved: list[object] = field(default_factory=list)
    status: admin_pb2.GetStatusResponse = field(default_factory=lambda: STATUS)

    async def GetStatus(  # noqa: N802
        self, request: admin_pb2.GetStatusRequest, context: object
    ) -> admin_pb2.GetStatusResponse:
        return self.status

    async def DrainNode(  # noqa: N802
        self, request: admin_pb2.DrainNodeRequest, context: object
    ) -> admin_pb2.DrainNodeResponse:
        if request.node != "node-0":
            raise NotFoundError("node", request.node, ["node-0"])
        self.drained.append(request.node)
        return admin_pb2.DrainNodeResponse()

    async def LoadVariant(  # noqa: N802
        self, request: admin_pb2.LoadVariantRequest, context: object
    ) -> admin_pb2.LoadVariantResponse:
        if request.variant != "base":
            raise FailedPreconditionError(f"variant {request.variant!r} does not fit")
        self.moved.append(request)
        return admin_pb2.LoadVariantResponse(resident=["base"], seconds=1.5)

    async def UnloadVariant(  # noqa: N802
        self, request: admin_pb2.UnloadVariantRequest, context: object
    ) -> admin_pb2.UnloadVariantResponse:
        self.moved.append(request)
        return admin_pb2.UnloadVariantResponse()


@dataclass
class Scripted:
    """A running server and what it saw."""

    address: str
    images: ImageScript
    admin: AdminScript


@asynccontextmanager
async def scripted_server() -> AsyncGenerator[Scripted, None]:
    """Run the script on a free port of loopback."""
    server = RpcServer()
    images, admin = ImageScript(), AdminScript()
    server.add(image_pb2_grpc.add_ImageServiceServicer_to_server, images, IMAGE_SERVICE)
    server.add(admin_pb2_grpc.add_AdminServiceServicer_to_server, admin, ADMIN_SERVICE)
    address = await server.start("127.0.0.1:0", "coordinator.bind")
    await server.set_serving(IMAGE_SERVICE, True)
    try:
        yield Scripted(address, images, admin)
    finally:
        await server.stop(0)


async def all_ended(scripted: Scripted) -> None:
    async with asyncio.timeout(5):
        while scripted.images.running:  # noqa: ASYNC110 - the server has no such event
            await asyncio.sleep(0.01)
