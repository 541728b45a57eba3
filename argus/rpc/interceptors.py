"""Where exceptions of handlers become gRPC status: one interceptor for all services."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from argus.errors import ArgusError
from argus.rpc.remade import Remade
from argus.rpc.status import to_status
from argus.rpc.utf8 import MalformedRequest, tolerant
from argus.v1 import image_pb2

log = logging.getLogger(__name__)

# The published stubs describe handlers of synchronous servers only.
Handler = Any
Context = grpc.aio.ServicerContext[Any, Any]


class ErrorInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Maps what a handler raises to a status with rich details.

    Cancellation and a handler's own `context.abort` pass untouched. What is not an ArgusError is
    logged with its traceback and leaves as INTERNAL with a fixed message. Handlers may be
    coroutines or asynchronous generators; a generator whose client has left while an answer was
    being sent is closed, so clean-up belongs into `finally`.
    """

    def __init__(self) -> None:
        self._mapped = Remade(_mapped_handler)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Return the handler of the call with its errors mapped."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None  # gRPC answers UNIMPLEMENTED
        return self._mapped(handler, str(handler_call_details.method))


def _mapped_handler(handler: Handler, method: str) -> Handler:
    parse = handler.request_deserializer
    arguments = {
        "request_deserializer": None if parse is None else tolerant(parse, method),
        "response_serializer": handler.response_serializer,
    }
    one_answer = handler.unary_unary or handler.stream_unary
    many_answers = handler.unary_stream or handler.stream_stream

    async def answer_one(request: Any, context: Context) -> Any:
        async with _mapped_errors(method, context, request):
            return await one_answer(_checked(request), context)

    async def answer_many(request: Any, context: Context) -> None:
        async with _mapped_errors(method, context, request):
            answers = many_answers(_checked(request), context)
            if not isinstance(answers, AsyncGenerator):
                await answers
                return
            # A cancelled write must not leave the handler's generator suspended.
            async with contextlib.aclosing(answers):
                async for answer in answers:
                    try:
                        await context.write(answer)
                    except grpc.aio.InternalError:
                        # gRPC could not send it: the client is gone, and its cancellation is only
                        # being noticed. A write to a call that is alive does not fail.
                        log.debug("%s: the client left", method)
                        return

    if handler.request_streaming:
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(answer_many, **arguments)
        return grpc.stream_unary_rpc_method_handler(answer_one, **arguments)
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(answer_many, **arguments)
    return grpc.unary_unary_rpc_method_handler(answer_one, **arguments)


@contextlib.asynccontextmanager
async def _mapped_errors(method: str, context: Context, request: Any) -> AsyncIterator[None]:
    try:
        yield
    except grpc.aio.AbortError:
        raise
    except NotImplementedError:
        # What generated code raises for a method that a service, such as Health, leaves out.
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{method} is not implemented here")
    except Exception as error:
        if isinstance(error, ArgusError):
            log.debug("%s refused: %s", method, type(error).__name__)
        else:
            log.exception("%s failed", method, extra=_known(request))
        status = to_status(error)
        await context.abort(status.code, status.message, status.trailing_metadata)


def _known(request: Any) -> dict[str, str]:
    """Return what a log may say of a request: never more than its id."""
    if isinstance(request, image_pb2.GenerateRequest):
        return {"request_id": request.request_id}
    return {}


def _checked(request: Any) -> Any:
    """Return the request, or the stream of requests, with malformed ones raised as errors."""
    if isinstance(request, MalformedRequest):
        raise request.error
    if isinstance(request, AsyncIterator):
        return _checked_each(request)
    return request


async def _checked_each(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield _checked(request)
