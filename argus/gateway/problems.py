"""Where errors become HTTP answers: RFC 9457 problems that OpenAI's clients understand too."""

from __future__ import annotations

import http
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from argus.errors import (
    AlreadyExistsError,
    ArgusError,
    CancelledError,
    ConfigError,
    DeadlineError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    ModelError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
)

MEDIA_TYPE = "application/problem+json"
INTERNAL_MESSAGE = "internal error; the server's log has the details"
CLIENT_GONE = 499
"""Nobody reads this answer; the number is nginx's."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How one class of errors is told.

    Attributes:
        status: of HTTP.
        code: stable name, for programs.
        title: for people, the same for every error of the kind.
        openai_type: `error.type` in OpenAI's form.
    """

    status: int
    code: str
    title: str
    openai_type: str = "invalid_request_error"


KINDS: tuple[tuple[type[ArgusError], Kind], ...] = (
    (InvalidArgumentError, Kind(400, "invalid_value", "A field has a value that is not allowed")),
    (UnauthenticatedError, Kind(401, "invalid_api_key", "No valid key was presented")),
    (PermissionDeniedError, Kind(403, "forbidden", "The key does not allow this")),
    (NotFoundError, Kind(404, "not_found", "Something asked for by name does not exist")),
    (AlreadyExistsError, Kind(409, "conflict", "A name is taken")),
    (FailedPreconditionError, Kind(409, "conflict", "The state of the system forbids this")),
    (
        OverloadedError,
        Kind(429, "overloaded", "There is no room for this request now", "rate_limit_error"),
    ),
    (CancelledError, Kind(CLIENT_GONE, "cancelled", "The request was given up", "server_error")),
    (ConfigError, Kind(500, "internal", "The server is not set up rightly", "server_error")),
    (ModelError, Kind(500, "internal", "A model cannot be served", "server_error")),
    (InternalError, Kind(500, "internal", "The server failed", "server_error")),
    (UnavailableError, Kind(503, "unavailable", "No node can take this now", "server_error")),
    (DeadlineError, Kind(504, "deadline_exceeded", "The image cannot be on time", "server_error")),
)
"""The one mapping from the exception tree to HTTP."""

FALLBACK = Kind(500, "internal", "The server failed", "server_error")

FIELDS = {
    "variant": "model",
    "deadline_s": "deadline",
    "format": "output_format",
    "width": "size",
    "height": "size",
    "preview_every": "partial_images",
}
"""Fields of a body by the field of the request that they end up in, where the names differ."""


class HttpError(ArgusError):
    """What HTTP itself forbids, beyond the exception tree.

    Attributes:
        status: of HTTP.
        code: stable name, for programs.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def kind_of(error: Exception) -> Kind:
    """Return how an error is told."""
    if isinstance(error, HttpError):
        return Kind(error.status, error.code, http.HTTPStatus(error.status).phrase)
    return next((kind for cls, kind in KINDS if isinstance(error, cls)), FALLBACK)


def problem(error: Exception) -> dict[str, Any]:
    """Return the body that tells of an error: a problem, and below `error` OpenAI's form of it."""
    kind = kind_of(error)
    field = None
    detail = _renamed(str(error)) if isinstance(error, ArgusError) else INTERNAL_MESSAGE
    if isinstance(error, InvalidArgumentError | NotFoundError):
        field = FIELDS.get(error.field, error.field)
    body: dict[str, Any] = {
        "type": f"urn:argus:problem:{kind.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "code": kind.code,
    }
    if field is not None:
        body["errors"] = [{"field": field, "detail": detail.removeprefix(f"{field}: ")}]
    if isinstance(error, OverloadedError):
        body["retry_after_s"] = error.retry_after_s
    body["error"] = {
        "message": detail,
        "type": kind.openai_type,
        "param": field,
        "code": "model_not_found" if (field, kind.status) == ("model", 404) else kind.code,
    }
    return body


def _renamed(message: str) -> str:
    """Return a message with the field that it begins with named as the body names it."""
    field, colon, rest = message.partition(": ")
    return f"{FIELDS.get(field, field)}{colon}{rest}"


def headers_of(error: Exception) -> dict[str, str]:
    """Return the headers that go with an error.

    Retry-After knows whole seconds only, rounded up; the second one is OpenAI's, in milliseconds.
    """
    if isinstance(error, OverloadedError):
        return {
            "Retry-After": str(math.ceil(error.retry_after_s)),
            "Retry-After-Ms": str(math.ceil(1000 * error.retry_after_s)),
        }
    if isinstance(error, UnauthenticatedError):
        return {"WWW-Authenticate": "Bearer"}
    return {}


def answer(error: Exception, headers: Mapping[str, str] | None = None) -> Response:
    """Return the answer that tells of an error."""
    return JSONResponse(
        problem(error),
        kind_of(error).status,
        {**headers_of(error), **(headers or {})},
        MEDIA_TYPE,
    )


async def on_argus_error(request: Request, error: Exception) -> Response:
    """Answer what was raised on purpose."""
    return answer(error)


async def on_bug(request: Request, error: Exception) -> Response:
    """Answer what nobody foresaw; the server logs it."""
    return answer(error)


async def on_http_error(request: Request, error: Exception) -> Response:
    """Answer what the router refuses: an unknown path or a wrong method."""
    if not isinstance(error, HTTPException):
        return answer(error)
    phrase = http.HTTPStatus(error.status_code).phrase
    code = phrase.lower().replace(" ", "_")
    told = f"{phrase.lower()}: {request.method} {request.url.path}"
    return answer(HttpError(error.status_code, code, told), error.headers)
