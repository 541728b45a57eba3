"""What a request says of itself, and its body, read within limits."""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect, Request

from argus.errors import CancelledError
from argus.gateway.problems import HttpError
from argus.types import ImageFormat

JSON = "application/json"
PICTURES = {f"image/{image_format.value}": image_format for image_format in ImageFormat}


async def read_json_body(request: Request, limit: int, timeout_s: float) -> bytes:
    """Return the body of a request that says that it is JSON.

    Another content type is refused, which keeps pages of other origins from sending any: browsers
    ask before they send JSON across origins, and get no permission here.

    Raises:
        HttpError: 415 for another type, 413 for over `limit` bytes, 408 after `timeout_s` seconds.
        CancelledError: the client left.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != JSON:
        raise HttpError(
            415, "unsupported_media_type", f"Content-Type must be {JSON}, not {media_type!r}"
        )
    told = request.headers.get("content-length", "0")
    if told.isdecimal() and int(told[:20]) > limit:
        raise _too_large(limit)
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise _too_large(limit)
    except TimeoutError as error:
        told = f"the body did not arrive within {timeout_s:g} s"
        raise HttpError(408, "request_timeout", told) from error
    except ClientDisconnect as error:
        raise CancelledError("the client left") from error
    return bytes(body)


def _too_large(limit: int) -> HttpError:
    return HttpError(413, "body_too_large", f"a body may have at most {limit:,} bytes")


def accepted(header: str, picture: str | None) -> str:
    """Return the media type to answer with: JSON, or one of a picture.

    Args:
        header: of Accept; empty: anything.
        picture: name of the format that the body asks for, if it does.

    Raises:
        HttpError: 406, none of them is accepted.
    """
    wanted = f"image/{picture}" if picture else "image/png"
    offers = [JSON, wanted, *(PICTURES if not picture else ()), "text/event-stream"]
    ranges = _ranges(header or "*/*")
    best, best_weight = "", 0.0
    for offer in offers:
        weight = _weight(offer, ranges)
        if weight > best_weight:
            best, best_weight = offer, weight
    if not best:
        raise HttpError(406, "not_acceptable", f"Accept must allow one of {', '.join(offers)}")
    return best


def _ranges(header: str) -> dict[str, float]:
    """Return the weight of each media range of an Accept header; what cannot be read weighs 0."""
    ranges = {}
    for part in header.split(","):
        name, *parameters = (text.strip().lower() for text in part.split(";"))
        weight = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                try:
                    weight = float(value)
                except ValueError:
                    weight = 0.0
        ranges[name] = weight
    return ranges


def _weight(offer: str, ranges: dict[str, float]) -> float:
    """Return the weight of the most specific range that holds `offer`."""
    kind = offer.partition("/")[0]
    return next((ranges[r] for r in (offer, f"{kind}/*", "*/*") if r in ranges), 0.0)
