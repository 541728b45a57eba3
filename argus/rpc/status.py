"""The one mapping between the exception tree and gRPC status with google.rpc rich details."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import (  # type: ignore[import-untyped]
    BadRequest,
    ErrorInfo,
    QuotaFailure,
    ResourceInfo,
    RetryInfo,
)
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

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
    QuotaError,
    UnauthenticatedError,
    UnavailableError,
)

DETAILS_KEY = "grpc-status-details-bin"
DOMAIN = "argus"
BROKEN = frozenset({"Internal error from Core", "Stream removed"})
"""What gRPC itself says, under other codes than UNAVAILABLE, where a connection broke."""
SERVER_LEAVES = "CANCELLED"
"""What gRPC says where the other side ended a call without a word."""
INTERNAL_MESSAGE = "internal error; the server's log has the details"

# Peers refuse trailers above 8 KiB by default, and the message travels percent-encoded.
MAX_MESSAGE_CHARS = 400
MAX_NAME_CHARS = 128
MAX_KNOWN_CHARS = 1500
KNOWN_KEY = "known"

_CODES: tuple[tuple[type[ArgusError], grpc.StatusCode], ...] = (
    (InvalidArgumentError, grpc.StatusCode.INVALID_ARGUMENT),
    (NotFoundError, grpc.StatusCode.NOT_FOUND),
    (AlreadyExistsError, grpc.StatusCode.ALREADY_EXISTS),
    (FailedPreconditionError, grpc.StatusCode.FAILED_PRECONDITION),
    (ConfigError, grpc.StatusCode.FAILED_PRECONDITION),
    (ModelError, grpc.StatusCode.FAILED_PRECONDITION),
    (OverloadedError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (UnavailableError, grpc.StatusCode.UNAVAILABLE),
    (DeadlineError, grpc.StatusCode.DEADLINE_EXCEEDED),
    (CancelledError, grpc.StatusCode.CANCELLED),
    (UnauthenticatedError, grpc.StatusCode.UNAUTHENTICATED),
    (PermissionDeniedError, grpc.StatusCode.PERMISSION_DENIED),
    (ArgusError, grpc.StatusCode.INTERNAL),
)

_PLAIN: Mapping[grpc.StatusCode, Callable[[str], ArgusError]] = {
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExistsError,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPreconditionError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
    grpc.StatusCode.CANCELLED: CancelledError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
}


@dataclass(frozen=True, slots=True)
class RpcStatus:
    """What a server sends instead of an answer."""

    code: grpc.StatusCode
    message: str
    trailing_metadata: tuple[tuple[str, bytes], ...]


class RpcFailure(Protocol):
    """What `grpc.aio.AioRpcError` and the errors of synchronous calls have in common."""

    def code(self) -> grpc.StatusCode: ...
    def details(self) -> str | None: ...
    def trailing_metadata(self) -> Iterable[Any] | None: ...


def to_status(error: Exception) -> RpcStatus:
    """Return the status that stands for `error`.

    An exception outside the Argus tree becomes INTERNAL with a fixed message, so that nothing
    of the server's inside leaves it.
    """
    if not isinstance(error, ArgusError):
        error = InternalError(INTERNAL_MESSAGE)
    code = next(code for kind, code in _CODES if isinstance(error, kind))
    message = _shorten(str(error), MAX_MESSAGE_CHARS)
    status = Status(code=code.value[0], message=message)
    for detail in _details(error, code):
        status.details.add().Pack(detail)
    return RpcStatus(code, message, ((DETAILS_KEY, status.SerializeToString()),))


def _details(error: ArgusError, code: grpc.StatusCode) -> list[Message]:
    info = ErrorInfo(reason=code.name, domain=DOMAIN)
    details: list[Message] = [info]
    if isinstance(error, InvalidArgumentError):
        details.append(_bad_request(error.field, error.description))
    elif isinstance(error, NotFoundError):
        name = _shorten(error.name, MAX_NAME_CHARS)
        details.append(_bad_request(error.field, f"unknown {name!r}"))
        details.append(ResourceInfo(resource_type=error.field, resource_name=name))
        info.metadata[KNOWN_KEY] = json.dumps(_first_names(error.known))
    elif isinstance(error, OverloadedError):
        retry_after = Duration()
        retry_after.FromNanoseconds(round(error.retry_after_s * 1e9))
        details.append(RetryInfo(retry_delay=retry_after))
    if isinstance(error, QuotaError):
        over = QuotaFailure.Violation(subject=error.tenant, description=error.limit)
        details.append(QuotaFailure(violations=[over]))
    return details


def _bad_request(field: str, description: str) -> BadRequest:
    return BadRequest(
        field_violations=[
            BadRequest.FieldViolation(
                field=field, description=_shorten(description, MAX_MESSAGE_CHARS)
            )
        ]
    )


def _first_names(names: Iterable[str]) -> list[str]:
    """Return as many of `names` as fit into the trailers."""
    first: list[str] = []
    room = MAX_KNOWN_CHARS
    for name in names:
        room -= len(name)
        if room < 0:
            break
        first.append(name)
    return first


def _shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def from_rpc_error(error: RpcFailure, server: str = "the server") -> ArgusError:
    """Return the exception that `error` stands for.

    Args:
        error: what a gRPC call raised, from an asyncio or a synchronous channel.
        server: who was called, for the message when nobody answered.
    """
    code = error.code()
    message = error.details() or code.name
    details = _rich_status(error).details
    info, invalid, missing, retry = ErrorInfo(), BadRequest(), ResourceInfo(), RetryInfo()
    quota = QuotaFailure()
    for packed in details:
        for kind in (info, invalid, missing, retry, quota):
            with contextlib.suppress(DecodeError):  # a broken detail of a peer says nothing
                packed.Unpack(kind)
    if code is grpc.StatusCode.INVALID_ARGUMENT and invalid.field_violations:
        violation = invalid.field_violations[0]
        return InvalidArgumentError(violation.field, violation.description)
    if code is grpc.StatusCode.NOT_FOUND and KNOWN_KEY in info.metadata:
        known = _known_names(info.metadata[KNOWN_KEY])
        return NotFoundError(missing.resource_type, missing.resource_name, known)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and retry.HasField("retry_delay"):
        retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
        if quota.violations:
            over = quota.violations[0]
            return QuotaError(message, over.description, over.subject, retry_after_s)
        return OverloadedError(message, retry_after_s)
    if not details and (code is grpc.StatusCode.UNAVAILABLE or message in BROKEN):
        return UnavailableError(f"cannot reach {server}: {_last_cause(message)}")
    if code is grpc.StatusCode.CANCELLED and not details and message == SERVER_LEAVES:
        # A server that stops ends calls so that it has not answered; nobody here gave up.
        return UnavailableError(f"{server} ended the call: it is stopping")
    if code is grpc.StatusCode.INTERNAL and not details:
        # A peer's own says more. This is gRPC's word for a stream that broke under a write, which
        # hides the status that the peer ended it with.
        return UnavailableError(f"the connection to {server} broke: {message}")
    return _PLAIN.get(code, InternalError)(message)


def _known_names(text: str) -> list[str]:
    """Return the names that a peer knows, none where it sent something else."""
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return [str(name) for name in names] if isinstance(names, list) else []


def _rich_status(error: RpcFailure) -> Status:
    """Return the rich status in the trailers, empty where a peer sent none or a broken one."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                return Status.FromString(value)
            except DecodeError:
                break
    return Status()


def _last_cause(message: str) -> str:
    """Return the end of gRPC's chain of causes, which is the part a person understands."""
    cause = message.rsplit(": ", 1)[-1].strip()
    for opening, closing in ("()", "[]"):
        while cause.endswith(closing) and cause.count(closing) > cause.count(opening):
            cause = cause[:-1].rstrip()
    return cause or message
