"""POST /v1/images/generations: as JSON, as the picture itself, or as server-sent events."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import ExitStack, aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from argus.client import AsyncClient, Event, Image, ImageResult, Preview, Queued, Started, Step
from argus.client import Warning as Notice
from argus.config import GatewayConfig
from argus.errors import ArgusError, InternalError, InvalidArgumentError
from argus.gateway.access import caller_of
from argus.gateway.bodies import JSON, PICTURES, accepted, read_json_body
from argus.gateway.cluster import Cluster
from argus.gateway.making import Room, all_images, follow, unless_gone
from argus.gateway.problems import problem
from argus.gateway.sse import EventStream, Frame
from argus.gateway.wanted import Wanted, parse_body, parse_wanted

PARTIAL = "image_generation.partial_image"
COMPLETED = "image_generation.completed"
ERROR = "error"
NO_TOKENS = {
    "input_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
    "output_tokens": 0,
    "total_tokens": 0,
}
"""OpenAI's clients expect the field; Argus counts no tokens."""
DEFAULT_STEPS = 50
"""Assumed where the variant is not known."""


class Images:
    """Makes images for HTTP clients.

    Args:
        config: limits.
        client: of the coordinator; must not try again when that is full.
        cluster: knows the variants.
        room: bounds what is under way.
    """

    def __init__(
        self, config: GatewayConfig, client: AsyncClient, cluster: Cluster, room: Room
    ) -> None:
        self._config = config
        self._client = client
        self._cluster = cluster
        self._room = room

    async def generate(self, request: Request) -> Response:
        """Answer one request; a client that leaves frees its rows."""
        config = self._config
        body = await read_json_body(request, config.max_body_bytes, config.body_timeout_s)
        data = parse_body(body)
        named = data.get("output_format")
        answer = accepted(
            request.headers.get("accept", ""), named if f"image/{named}" in PICTURES else None
        )
        wanted = parse_wanted(
            data,
            max_images=config.max_images,
            tenant=caller_of(request).tenant,
            request_id=request.headers.get("idempotency-key"),
            picture=PICTURES.get(answer),
        )
        if answer == "text/event-stream" and not wanted.stream:
            raise InvalidArgumentError("stream", f"must be true for an answer of {answer}")
        events = follow(self._client, wanted, self._steps(wanted))
        if wanted.stream:
            return await self._stream(request, wanted, events)
        with self._room.enter(wanted.n):
            async with aclosing(events):
                results = await unless_gone(request, all_images(events, wanted))
        if answer == JSON:
            return JSONResponse(_collected(wanted, results), headers=_headers(wanted))
        (result,) = results
        return Response(result.data, headers=_described(result), media_type=answer)

    async def _stream(
        self, request: Request, wanted: Wanted, events: AsyncGenerator[Event, None]
    ) -> Response:
        """Answer with events; what is refused at once is refused with its own status."""
        with ExitStack() as stack:
            stack.enter_context(self._room.enter(wanted.n))
            try:
                first = await unless_gone(request, _first(events))
            except BaseException:
                await events.aclose()
                raise
            held = stack.pop_all()
        frames = _frames(wanted, first, events, held)
        return EventStream(frames, _headers(wanted))

    def _steps(self, wanted: Wanted) -> int:
        """Return the steps that an image is likely to take."""
        steps = wanted.options.get("steps")
        if steps is not None:
            return steps
        variant = self._cluster.variant(wanted.options.get("variant", ""))
        return DEFAULT_STEPS if variant is None else variant.default_steps


async def _first(events: AsyncGenerator[Event, None]) -> Event:
    async for event in events:
        return event
    raise InternalError("the request ended without an event")


async def _frames(
    wanted: Wanted, first: Event, events: AsyncGenerator[Event, None], held: ExitStack
) -> AsyncGenerator[Frame, None]:
    """Iterate over what is sent, then let go of what is held."""
    partials: dict[str, int] = {}
    with held:
        async with aclosing(events):
            try:
                frame = _frame(wanted, first, partials)
                if frame is not None:
                    yield frame
                async for event in events:
                    frame = _frame(wanted, event, partials)
                    if frame is not None:
                        yield frame
            except ArgusError as error:
                yield Frame(ERROR, {"type": ERROR, **problem(error)})


def _frame(wanted: Wanted, event: Event, partials: dict[str, int]) -> Frame | None:
    """Return what is sent of an event, or None where it was not asked for."""
    common: dict[str, Any] = {"request_id": event.request_id}
    told: dict[str, Any]
    match event:
        case Preview():
            index = partials[event.request_id] = partials.get(event.request_id, -1) + 1
            data = {
                **_openai(event.data, "jpeg", _size_wanted(wanted)),
                "partial_image_index": index,
            }
            return Frame(PARTIAL, {"type": PARTIAL, **data, **common, "step": event.step})
        case Image():
            result = event.result
            data = _openai(result.data, result.format.value, _size_of(result))
            made = {"argus": _made(wanted, result)}
            return Frame(
                COMPLETED, {"type": COMPLETED, **data, "usage": NO_TOKENS, **common, **made}
            )
        case Queued():
            told = {"ahead": event.ahead, "predicted_s": event.predicted_s}
        case Started():
            told = {
                "node": event.node,
                "model": event.variant,
                "level": event.level,
                "steps": event.steps,
                "attempt": event.attempt,
            }
        case Step():
            told = {"step": event.step, "steps": event.steps, "lanes": event.lanes}
        case Notice():
            told = {"code": event.code, "message": event.message}
    if not wanted.progress:
        return None
    name = f"argus.{type(event).__name__.lower()}"
    return Frame(name, {"type": name, **common, **told})


def _size_wanted(wanted: Wanted) -> str:
    """Return the size asked for, in OpenAI's form."""
    size = wanted.options.get("size")
    return "auto" if size is None else f"{size[0]}x{size[1]}"


def _openai(data: bytes, format_name: str, size: str) -> dict[str, Any]:
    return {
        "b64_json": base64.b64encode(data).decode(),
        "background": "opaque",
        "created_at": int(time.time()),
        "output_format": format_name,
        "quality": "auto",
        "size": size,
    }


def _collected(wanted: Wanted, results: list[ImageResult]) -> dict[str, Any]:
    """Return the body of an answer in JSON."""
    return {
        "created": int(time.time()),
        "background": "opaque",
        "output_format": wanted.format.value,
        "size": _size_of(results[0]),
        "data": [
            {
                "b64_json": base64.b64encode(result.data).decode(),
                "argus": _made(wanted, result),
            }
            for result in results
        ],
    }


def _size_of(result: ImageResult) -> str:
    return f"{result.width}x{result.height}"


def _made(wanted: Wanted, result: ImageResult) -> dict[str, Any]:
    """Return how a picture was made."""
    return {
        "request_id": result.request_id,
        "model": result.variant,
        "level": result.level,
        "seed": result.seed,
        "sampler": result.sampler,
        "steps": result.steps,
        "skipped_steps": result.skipped_steps,
        "guidance": result.guidance,
        "predicted_quality": result.predicted_quality,
        "similarity": result.similarity,
        "node": result.node,
        "queued_s": result.queued_s,
        "running_s": result.running_s,
        "total_s": result.total_s,
        "attempts": result.attempts,
        "warnings": wanted.warnings.get(result.request_id, []),
    }


def _headers(wanted: Wanted) -> Mapping[str, str]:
    return {"X-Request-Id": wanted.series.request_id, "Cache-Control": "no-store"}


def _described(result: ImageResult) -> Mapping[str, str]:
    """Return the headers that say how the picture in the body was made."""
    return {
        "X-Request-Id": result.request_id,
        "Cache-Control": "no-store",
        "Argus-Model": result.variant,
        "Argus-Level": result.level,
        "Argus-Seed": str(result.seed),
        "Argus-Steps": str(result.steps),
        "Argus-Predicted-Quality": f"{result.predicted_quality:.4g}",
    }
