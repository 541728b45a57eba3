"""Errors survive the wire, with their details."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status

from argus import errors
from argus.rpc.status import INTERNAL_MESSAGE, RpcStatus, from_rpc_error, to_status

ERRORS = [
    (errors.InvalidArgumentError("steps", "must be 1 to 1,000, not 0"), "INVALID_ARGUMENT"),
    (errors.NotFoundError("variant", "bse", ["base", "small"]), "NOT_FOUND"),
    (errors.NotFoundError("level", "x", []), "NOT_FOUND"),
    (errors.AlreadyExistsError("node-0 is a member already"), "ALREADY_EXISTS"),
    (errors.FailedPreconditionError("protocol version 1"), "FAILED_PRECONDITION"),
    (errors.OverloadedError("1024 requests in flight", 1.25), "RESOURCE_EXHAUSTED"),
    (errors.QuotaError("at the limit", "rate_per_s", "acme", 0.5), "RESOURCE_EXHAUSTED"),
    (errors.UnavailableError("no node is there"), "UNAVAILABLE"),
    (errors.DeadlineError("the deadline of 2 s passed"), "DEADLINE_EXCEEDED"),
    (errors.CancelledError("given up"), "CANCELLED"),
    (errors.InternalError("the device failed"), "INTERNAL"),
    (errors.UnauthenticatedError("no token"), "UNAUTHENTICATED"),
    (errors.PermissionDeniedError("not yours"), "PERMISSION_DENIED"),
]


@dataclass
class Failure:
    """What a client holds after a call failed."""

    status: grpc.StatusCode
    text: str | None
    trailers: object = field(default=())

    def code(self) -> grpc.StatusCode:
        return self.status

    def details(self) -> str | None:
        return self.text

    def trailing_metadata(self) -> object:
        return self.trailers


def received(status: RpcStatus) -> Failure:
    return Failure(status.code, status.message, status.trailing_metadata)


@pytest.mark.parametrize(("error", "code"), ERRORS, ids=lambda e: type(e).__name__)
def test_every_error_round_trips_with_its_details(error: errors.ArgusError, code: str) -> None:
    status = to_status(error)
    back = from_rpc_error(received(status))

    assert status.code.name == code
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert vars(back) == vars(error)


def test_every_error_of_the_tree_has_a_code() -> None:
    tree = {kind for kind in vars(errors).values() if isinstance(kind, type)}
    leaves = {kind for kind in tree if issubclass(kind, errors.ArgusError)}
    local = {errors.ArgusError, errors.ConfigError, errors.ModelError}
    assert leaves - local == {type(error) for error, _ in ERRORS}


def test_other_languages_find_the_standard_details() -> None:
    def details(error: errors.ArgusError) -> SimpleNamespace:
        status = Status.FromString(to_status(error).trailing_metadata[0][1])
        found = SimpleNamespace(bad=BadRequest(), retry=RetryInfo(), code=status.code)
        for packed in status.details:
            packed.Unpack(found.bad)
            packed.Unpack(found.retry)
        return found

    invalid = details(errors.InvalidArgumentError("steps", "too many"))
    assert invalid.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert invalid.bad.field_violations[0].field == "steps"
    assert invalid.bad.field_violations[0].description == "too many"
    missing = details(errors.NotFoundError("variant", "bse", ["base"]))
    assert missing.bad.field_violations[0].field == "variant"
    full = details(errors.OverloadedError("full", 2.5))
    assert full.retry.retry_delay.ToMilliseconds() == 2500


@pytest.mark.parametrize(
    "error", [errors.ConfigError("node.slots: must be above 0"), errors.ModelError("no unet")]
)
def test_local_errors_leave_as_failed_precondition(error: errors.ArgusError) -> None:
    back = from_rpc_error(received(to_status(error)))
    assert isinstance(back, errors.FailedPreconditionError)
    assert str(back) == str(error)


def test_an_unknown_exception_tells_nothing() -> None:
    status = to_status(KeyError("secret"))
    assert status.code is grpc.StatusCode.INTERNAL
    assert status.message == INTERNAL_MESSAGE
    assert b"secret" not in status.trailing_metadata[0][1]


def test_trailers_stay_small_whatever_was_asked_for() -> None:
    known = [f"level-{i:04d}" for i in range(5000)]
    status = to_status(errors.NotFoundError("level", "é" * 4000, known))
    assert len(status.message) <= 400
    assert len(status.trailing_metadata[0][1]) < 4000
    back = from_rpc_error(received(status))
    assert isinstance(back, errors.NotFoundError)
    assert back.known == tuple(known[: len(back.known)])
    assert len(back.known) > 50


@pytest.mark.parametrize(
    ("failure", "kind", "text"),
    [
        (
            Failure(
                grpc.StatusCode.UNAVAILABLE,
                "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: "
                "Failed to connect to remote host: Connection refused",
            ),
            errors.UnavailableError,
            "cannot reach h:1: Connection refused",
        ),
        (
            Failure(
                grpc.StatusCode.UNAVAILABLE,
                "errors resolving h:1: [field:hostname lookup error:address lookup failed for "
                "h:1: Domain name not found]",
            ),
            errors.UnavailableError,
            "cannot reach h:1: Domain name not found",
        ),
        (
            Failure(grpc.StatusCode.UNAVAILABLE, "Stream removed (Socket closed)"),
            errors.UnavailableError,
            "cannot reach h:1: Stream removed (Socket closed)",
        ),
        (
            Failure(grpc.StatusCode.INTERNAL, "Internal error from Core"),
            errors.UnavailableError,
            "cannot reach h:1: Internal error from Core",
        ),
        (
            Failure(grpc.StatusCode.INTERNAL, "Received RST_STREAM with error code 2"),
            errors.UnavailableError,
            "the connection to h:1 broke: Received RST_STREAM with error code 2",
        ),
        (
            Failure(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"),
            errors.DeadlineError,
            "Deadline Exceeded",
        ),
        (
            Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "message larger than max"),
            errors.InternalError,
            "message larger than max",
        ),
        (
            Failure(grpc.StatusCode.INTERNAL, "Internal error from Core", None),
            errors.UnavailableError,
            "cannot reach h:1: Internal error from Core",
        ),
        (
            Failure(grpc.StatusCode.CANCELLED, "", None),
            errors.UnavailableError,
            "h:1 ended the call: it is stopping",
        ),
        (
            Failure(grpc.StatusCode.CANCELLED, "Locally cancelled by application!", None),
            errors.CancelledError,
            "Locally cancelled by application!",
        ),
        (
            Failure(grpc.StatusCode.UNIMPLEMENTED, None, None),
            errors.InternalError,
            "UNIMPLEMENTED",
        ),
        (
            Failure(grpc.StatusCode.NOT_FOUND, "?", (("grpc-status-details-bin", b"\xff"),)),
            errors.InternalError,
            "?",
        ),
    ],
)
def test_errors_of_the_transport_become_errors_too(
    failure: Failure, kind: type[errors.ArgusError], text: str
) -> None:
    error = from_rpc_error(failure, "h:1")
    assert type(error) is kind
    assert str(error) == text
