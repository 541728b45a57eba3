"""The SDK for asyncio."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from itertools import repeat
from types import TracebackType
from typing import Literal, Self, TypeVar, Unpack, overload

import grpc

from argus.client.events import Event, Image, events_from_proto
from argus.client.progress import progress_bar
from argus.client.request import Options, build_request
from argus.client.result import Failure, ImageResult
from argus.client.retries import Attempts, Retries
from argus.client.series import plan_series
from argus.client.servers import Server, Servers
from argus.client.tracing import note_event, start_span
from argus.client.variants import Variant, variants_from_proto
from argus.errors import ArgusError, InternalError
from argus.rpc.channel import open_channel
from argus.rpc.dial import Dialling, Metadata
from argus.rpc.status import from_rpc_error
from argus.rpc.tls import Tls
from argus.tracing.spans import OFF, Tracer, carried, ending
from argus.types import ImageRequest
from argus.v1 import admin_pb2, image_pb2

DEFAULT_SERVER = "127.0.0.1:7420"
DEFAULT_CONCURRENCY = 8
QUICK_CALL_S = 10.0
MOVE_CALL_S = 900.0
"""Large weights from slow disks take minutes, and rows are waited for before."""

T = TypeVar("T")


class AsyncClient:
    """Asks one Argus coordinator for images. Use inside one event loop, as a context manager.

    Every method raises the errors of `argus.errors`: InvalidArgumentError and NotFoundError name
    the field; UnavailableError and OverloadedError come only after the retries are used up (see
    `Retries`).

    Args:
        server: `HOST:PORT` of the coordinator; several, separated by commas, where others stand by
            for it: they are tried in turn until one leads.
        retries: how often to try again, and how long to wait.
        tls: how to meet the server's TLS; None: it speaks none.
        api_key: shown to a server that asks for keys.
        insecure: let the key cross a network without TLS.
        tracer: traces requests; see `argus.tracing.opening.application_tracer`.

    Raises:
        InvalidArgumentError: the key would cross a network without TLS, or one of several servers
            is not an address.
        ConfigError: a file of `tls` cannot be used.
    """

    def __init__(
        self,
        server: str = DEFAULT_SERVER,
        *,
        retries: Retries | None = None,
        tls: Tls | None = None,
        api_key: str = "",
        insecure: bool = False,
        tracer: Tracer = OFF,
    ) -> None:
        dialling = Dialling(tls, api_key, insecure)
        self.server = server
        self._retries = retries or Retries()
        self._metadata = dialling.metadata
        self._tracer = tracer
        watchful = "," in server
        self._servers: Servers[grpc.aio.Channel] = Servers(
            server, dialling, lambda address: open_channel(address, tls, watchful=watchful)
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls still running are cancelled."""
        for channel in self._servers.channels:
            await channel.close(grace=None)

    async def generate(
        self,
        prompt: str,
        *,
        on_event: Callable[[Event], None] | None = None,
        **options: Unpack[Options],
    ) -> ImageResult:
        """Return one image.

        Args:
            prompt: what the picture shows, 1 to 4,000 characters.
            on_event: called with each event as it arrives, the image included.
            options: see `argus.client.request.Options`.
        """
        async with aclosing(self.stream(prompt, **options)) as events:
            async for event in events:
                if on_event is not None:
                    on_event(event)
                if isinstance(event, Image):
                    return event.result
        raise InternalError("the server ended the request without an image")

    def stream(self, prompt: str, **options: Unpack[Options]) -> AsyncGenerator[Event, None]:
        """Iterate over the events of one request; the last is the Image.

        Leaving the iteration early cancels the request. After a retry events may come again.
        """
        return self._stream(build_request(prompt, **options))

    async def _stream(self, request: ImageRequest) -> AsyncGenerator[Event, None]:
        with ending(start_span(self._tracer, request)) as span:
            async with aclosing(self._attempted(request, carried(span))) as events:
                async for event in events:
                    note_event(span, event)
                    yield event

    async def _attempted(
        self, request: ImageRequest, metadata: Metadata
    ) -> AsyncGenerator[Event, None]:
        """Ask until there is an answer, or another attempt makes no sense."""
        attempts = Attempts(
            self._retries, request.deadline_s, request.request_id, servers=len(self._servers)
        )
        while True:
            server = self._servers.current
            try:
                call = server.images.Generate(
                    attempts.message(request),
                    timeout=attempts.call_timeout_s(),
                    metadata=(*self._metadata, *metadata),
                )
                async with aclosing(self._events(call, request.prompt, server.address)) as events:
                    async for event in events:
                        attempts.received()
                        yield event
                return
            except ArgusError as error:
                self._servers.failed(server, error)
                await asyncio.sleep(attempts.wait_s(error))

    async def _events(
        self,
        call: grpc.aio.UnaryStreamCall[image_pb2.GenerateRequest, image_pb2.GenerateResponse],
        prompt: str,
        address: str,
    ) -> AsyncGenerator[Event, None]:
        try:
            async for message in call:
                for event in events_from_proto(message, prompt):
                    yield event
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, address) from error
        finally:
            call.cancel()

    async def images(
        self,
        prompt: str,
        n: int,
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        on_event: Callable[[Event], None] | None = None,
        **options: Unpack[Options],
    ) -> list[ImageResult]:
        """Return `n` images of one prompt, each by a request of its own.

        With a seed, image i (from 0) is the one that `generate(prompt, seed=seed + i)` returns;
        without one each gets a seed of its own. With a `request_id` of ID and n above 1 the
        requests are ID-1 … ID-n, and asking again with the same id finds the same images.

        Args:
            prompt: what the pictures show.
            n: how many, at least 1.
            concurrency: requests at a time, at least 1.
            on_event: called with each event of each image; its `request_id` tells whose it is.
            options: see `argus.client.request.Options`.

        The first failure is raised; it and leaving early cancel all that is still running.
        """
        series = plan_series(options.get("seed"), options.get("request_id"), n)
        results = self.map(
            repeat(prompt, n),
            concurrency=concurrency,
            ordered=False,
            each=series.options,
            on_event=on_event,
            **options,
        )
        with series.in_whole():
            async with aclosing(results):
                return series.in_order([result async for result in results])

    @overload
    def map(
        self,
        prompts: Iterable[str],
        *,
        concurrency: int = ...,
        ordered: bool = ...,
        errors: Literal["raise"] = ...,
        progress: bool = ...,
        each: Callable[[int], Options] | None = ...,
        on_event: Callable[[Event], None] | None = ...,
        **options: Unpack[Options],
    ) -> AsyncGenerator[ImageResult, None]: ...

    @overload
    def map(
        self,
        prompts: Iterable[str],
        *,
        concurrency: int = ...,
        ordered: bool = ...,
        errors: Literal["yield"],
        progress: bool = ...,
        each: Callable[[int], Options] | None = ...,
        on_event: Callable[[Event], None] | None = ...,
        **options: Unpack[Options],
    ) -> AsyncGenerator[ImageResult | Failure, None]: ...

    async def map(
        self,
        prompts: Iterable[str],
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        ordered: bool = True,
        errors: Literal["raise", "yield"] = "raise",
        progress: bool = False,
        each: Callable[[int], Options] | None = None,
        on_event: Callable[[Event], None] | None = None,
        **options: Unpack[Options],
    ) -> AsyncGenerator[ImageResult | Failure, None]:
        """Iterate over one image for each prompt, with at most `concurrency` requests at a time.

        Args:
            prompts: read only as fast as needed.
            concurrency: images asked for or waiting to be taken, at least 1.
            ordered: results in the order of the prompts; else in the order of completion.
            errors: "raise": the first failure ends the iteration, and what is still running, or
                done and not taken, is lost; "yield": a Failure takes the place of an image that
                could not be made, and the rest goes on.
            progress: whether a bar is shown on stderr, where that is a terminal.
            each: called with the position of a prompt, from 0, when its turn comes; returns options
                that win over the common ones, such as `{"seed": position}`.
            on_event: called with each event of each image; its `request_id` tells whose it is.
            options: the same for all. That includes the seed: with `seed=3` every image starts
                from the same noise, and equal prompts give equal images; without one each gets
                a seed of its own. A `request_id` gets the position appended.

        A failure that is raised, and leaving early, cancel what is still running.
        """
        check_map(concurrency, errors)
        running: deque[asyncio.Task[ImageResult | Failure]] = deque()
        with progress_bar(prompts, progress) as advance:

            async def one(position: int, prompt: str) -> ImageResult | Failure:
                result: ImageResult | Failure
                try:
                    here = options_at(position, options, each)
                    result = await self.generate(prompt, on_event=on_event, **here)
                except ArgusError as error:
                    if errors == "raise":
                        raise
                    result = Failure(position, prompt, error)
                advance(result)
                return result

            try:
                for position, prompt in enumerate(prompts):
                    running.append(asyncio.ensure_future(one(position, prompt)))
                    if len(running) == concurrency:
                        yield await _next_done(running, ordered)
                while running:
                    yield await _next_done(running, ordered)
            finally:
                for task in running:
                    task.cancel()
                await asyncio.gather(*running, return_exceptions=True)

    async def variants(self) -> list[Variant]:
        """Return what can be asked for, the default variant first."""
        answer = await self._call(
            lambda server: server.images.ListVariants, image_pb2.ListVariantsRequest()
        )
        return variants_from_proto(answer.variants)

    async def status(self) -> admin_pb2.GetStatusResponse:
        """Return the state of the whole cluster."""
        answer: admin_pb2.GetStatusResponse = await self._call(
            lambda server: server.admin.GetStatus, admin_pb2.GetStatusRequest()
        )
        return answer

    async def drain(self, node: str) -> None:
        """Ask a node to finish its rows, take no more, and leave.

        Raises:
            NotFoundError: there is no node of that name.
        """
        await self._call(
            lambda server: server.admin.DrainNode, admin_pb2.DrainNodeRequest(node=node)
        )

    async def load_variant(self, node: str, variant: str) -> admin_pb2.LoadVariantResponse:
        """Bring a variant to a node's device, and return when it is there.

        Raises:
            NotFoundError: there is no such node, or it does not have the variant.
            FailedPreconditionError: it does not fit beside variants that are pinned or in use, or
                the node is carrying out another order.
        """
        request = admin_pb2.LoadVariantRequest(node=node, variant=variant)
        answer: admin_pb2.LoadVariantResponse = await self._call(
            lambda server: server.admin.LoadVariant, request, MOVE_CALL_S
        )
        return answer

    async def unload_variant(
        self, node: str, variant: str, *, park: bool = False
    ) -> admin_pb2.UnloadVariantResponse:
        """Take a variant off a node's device when its rows there are done.

        Args:
            node: name of the node.
            variant: name of the variant.
            park: whether it may stay in the node's host memory.

        Raises:
            NotFoundError: there is no such node, or it does not have the variant.
            FailedPreconditionError: it is pinned, or the node is carrying out another order.
        """
        request = admin_pb2.UnloadVariantRequest(node=node, variant=variant, park=park)
        answer: admin_pb2.UnloadVariantResponse = await self._call(
            lambda server: server.admin.UnloadVariant, request, MOVE_CALL_S
        )
        return answer

    async def _call(
        self,
        method: Callable[[Server[grpc.aio.Channel]], Callable[..., Awaitable[T]]],
        message: object,
        timeout_s: float = QUICK_CALL_S,
    ) -> T:
        attempts = Attempts(self._retries, servers=len(self._servers))
        while True:
            server = self._servers.current
            try:
                call = method(server)
                return await call(message, timeout=timeout_s, metadata=self._metadata)
            except grpc.aio.AioRpcError as error:
                failure = from_rpc_error(error, server.address)
                self._servers.failed(server, failure)
                await asyncio.sleep(attempts.wait_s(failure))


def options_at(position: int, options: Options, each: Callable[[int], Options] | None) -> Options:
    """Return the options of one position of a map: its own request id, and what `each` adds."""
    here: Options = {**options}
    if options.get("request_id") is not None:
        here["request_id"] = f"{options['request_id']}-{position}"
    return here if each is None else {**here, **each(position)}


def check_map(concurrency: int, errors: str) -> None:
    """Raise ValueError where a map cannot be run so."""
    if concurrency < 1:
        raise ValueError(f"concurrency must be at least 1, not {concurrency}")
    if errors not in ("raise", "yield"):
        raise ValueError(f"errors must be 'raise' or 'yield', not {errors!r}")


async def _next_done(running: deque[asyncio.Task[T]], ordered: bool) -> T:
    """Take the next result: of the oldest task, or of any that is done."""
    if ordered:
        return await running.popleft()
    done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    task = next(task for task in running if task in done)
    running.remove(task)
    return await task
