"""The SDK for threads: the same methods as AsyncClient, blocking.

It has its own synchronous channel rather than an event loop in a thread: two event loops with
gRPC in one process wake each other, and a blocking call must be interruptible by Ctrl-C.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from contextvars import copy_context
from itertools import repeat
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack, cast, overload

import grpc

from argus.client.aio import (
    DEFAULT_CONCURRENCY,
    DEFAULT_SERVER,
    MOVE_CALL_S,
    QUICK_CALL_S,
    check_map,
    options_at,
)
from argus.client.events import Event, Image, events_from_proto
from argus.client.progress import progress_bar
from argus.client.request import Options, build_request
from argus.client.result import Failure, ImageResult
from argus.client.retries import Attempts, Retries
from argus.client.series import plan_series
from argus.client.servers import Server, Servers
from argus.client.tracing import note_event, start_span
from argus.client.variants import Variant, variants_from_proto
from argus.errors import ArgusError, CancelledError, InternalError
from argus.rpc.channel import open_blocking_channel
from argus.rpc.dial import Dialling, Metadata
from argus.rpc.status import RpcFailure, from_rpc_error
from argus.rpc.tls import Tls
from argus.tracing.spans import OFF, Tracer, carried, ending
from argus.types import ImageRequest
from argus.v1 import admin_pb2, image_pb2

T = TypeVar("T")


class Client:
    """Asks one Argus coordinator for images. One client may be used from many threads.

    Methods, arguments and errors are those of AsyncClient.

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
        self._servers: Servers[grpc.Channel] = Servers(
            server, dialling, lambda address: open_blocking_channel(address, tls, watchful=watchful)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; calls still running are cancelled."""
        for channel in self._servers.channels:
            channel.close()

    def generate(
        self,
        prompt: str,
        *,
        on_event: Callable[[Event], None] | None = None,
        **options: Unpack[Options],
    ) -> ImageResult:
        """Return one image; see `AsyncClient.generate`."""
        with closing(self.stream(prompt, **options)) as events:
            return _result(events, on_event)

    def stream(self, prompt: str, **options: Unpack[Options]) -> Generator[Event, None, None]:
        """Iterate over the events of one request; see `AsyncClient.stream`."""
        return self._stream(build_request(prompt, **options), _Calls())

    def images(
        self,
        prompt: str,
        n: int,
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        on_event: Callable[[Event], None] | None = None,
        **options: Unpack[Options],
    ) -> list[ImageResult]:
        """Return `n` images of one prompt, image i as of seed + i; see `AsyncClient.images`.

        `on_event` is called in the threads that wait for the images.
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
        with series.in_whole(), closing(results):
            return series.in_order(results)

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
    ) -> Generator[ImageResult, None, None]: ...

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
    ) -> Generator[ImageResult | Failure, None, None]: ...

    def map(
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
    ) -> Generator[ImageResult | Failure, None, None]:
        """Iterate over one image for each prompt; see `AsyncClient.map`.

        With `seed=3` all start from the same noise. `on_event` and `each` are called in the
        threads that wait for the images.
        """
        check_map(concurrency, errors)
        calls = _Calls()
        running: deque[Future[ImageResult | Failure]] = deque()
        with (
            progress_bar(prompts, progress) as advance,
            ThreadPoolExecutor(concurrency, thread_name_prefix="argus-map") as pool,
        ):

            def one(prompt: str, position: int) -> ImageResult | Failure:
                result: ImageResult | Failure
                try:
                    request = build_request(prompt, **options_at(position, options, each))
                    with closing(self._stream(request, calls)) as events:
                        result = _result(events, on_event)
                except ArgusError as error:
                    if errors == "raise":
                        raise
                    result = Failure(position, prompt, error)
                advance(result)
                return result

            try:
                for position, prompt in enumerate(prompts):
                    # The threads of a pool know nothing of the span that is active here.
                    running.append(pool.submit(copy_context().run, one, prompt, position))
                    if len(running) == concurrency:
                        yield _next_done(running, ordered)
                while running:
                    yield _next_done(running, ordered)
            finally:
                calls.cancel()

    def _stream(self, request: ImageRequest, calls: _Calls) -> Generator[Event, None, None]:
        with ending(start_span(self._tracer, request)) as span:
            attempted = self._attempted(request, calls, carried(span))
            with closing(attempted) as events:
                for event in events:
                    note_event(span, event)
                    yield event

    def _attempted(
        self, request: ImageRequest, calls: _Calls, metadata: Metadata
    ) -> Generator[Event, None, None]:
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
                with calls.running(call):
                    for event in self._events(call, request.prompt, server.address):
                        attempts.received()
                        yield event
                return
            except ArgusError as error:
                self._servers.failed(server, error)
                calls.sleep(attempts.wait_s(error))

    def _events(
        self, call: Iterable[image_pb2.GenerateResponse], prompt: str, address: str
    ) -> Generator[Event, None, None]:
        try:
            for message in call:
                yield from events_from_proto(message, prompt)
        except grpc.RpcError as error:
            raise from_rpc_error(cast(RpcFailure, error), address) from error

    def variants(self) -> list[Variant]:
        """Return what can be asked for, the default variant first."""
        answer = self._call(
            lambda server: server.images.ListVariants, image_pb2.ListVariantsRequest()
        )
        return variants_from_proto(answer.variants)

    def status(self) -> admin_pb2.GetStatusResponse:
        """Return the state of the whole cluster."""
        answer: admin_pb2.GetStatusResponse = self._call(
            lambda server: server.admin.GetStatus, admin_pb2.GetStatusRequest()
        )
        return answer

    def drain(self, node: str) -> None:
        """Ask a node to finish its rows, take no more, and leave; see `AsyncClient.drain`."""
        self._call(lambda server: server.admin.DrainNode, admin_pb2.DrainNodeRequest(node=node))

    def load_variant(self, node: str, variant: str) -> admin_pb2.LoadVariantResponse:
        """Bring a variant to a node's device; see `AsyncClient.load_variant`."""
        request = admin_pb2.LoadVariantRequest(node=node, variant=variant)
        answer: admin_pb2.LoadVariantResponse = self._call(
            lambda server: server.admin.LoadVariant, request, MOVE_CALL_S
        )
        return answer

    def unload_variant(
        self, node: str, variant: str, *, park: bool = False
    ) -> admin_pb2.UnloadVariantResponse:
        """Take a variant off a node's device; see `AsyncClient.unload_variant`."""
        request = admin_pb2.UnloadVariantRequest(node=node, variant=variant, park=park)
        answer: admin_pb2.UnloadVariantResponse = self._call(
            lambda server: server.admin.UnloadVariant, request, MOVE_CALL_S
        )
        return answer

    def _call(
        self,
        method: Callable[[Server[grpc.Channel]], Callable[..., Any]],
        message: object,
        timeout_s: float = QUICK_CALL_S,
    ) -> Any:
        attempts = Attempts(self._retries, servers=len(self._servers))
        calls = _Calls()
        while True:
            server = self._servers.current
            try:
                return method(server)(message, timeout=timeout_s, metadata=self._metadata)
            except grpc.RpcError as error:
                failure = from_rpc_error(cast(RpcFailure, error), server.address)
                self._servers.failed(server, failure)
                calls.sleep(attempts.wait_s(failure))


class _Calls:
    """Calls that are given up together, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[Any] = set()
        self._cancelled = threading.Event()

    @contextmanager
    def running(self, call: Any) -> Iterator[None]:
        """Hold `call` while it runs; it is cancelled on leaving, or when all are."""
        with self._lock:
            self._running.add(call)
            if self._cancelled.is_set():
                call.cancel()
        try:
            yield
        finally:
            call.cancel()
            with self._lock:
                self._running.remove(call)

    def sleep(self, seconds: float) -> None:
        """Wait, unless all are cancelled.

        Raises:
            CancelledError: they are.
        """
        if self._cancelled.wait(seconds):
            raise CancelledError("the request was given up")

    def cancel(self) -> None:
        """Cancel what is running, and what would start."""
        with self._lock:
            self._cancelled.set()
            for call in self._running:
                call.cancel()


def _result(events: Iterable[Event], on_event: Callable[[Event], None] | None) -> ImageResult:
    for event in events:
        if on_event is not None:
            on_event(event)
        if isinstance(event, Image):
            return event.result
    raise InternalError("the server ended the request without an image")


def _next_done(running: deque[Future[T]], ordered: bool) -> T:
    """Take the next result: of the oldest request, or of any that is done."""
    if ordered:
        return running.popleft().result()
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    future = next(future for future in running if future in done)
    running.remove(future)
    return future.result()
