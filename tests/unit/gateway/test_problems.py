"""The one table from errors to HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from argus import errors
from argus.errors import ArgusError, InvalidArgumentError, NotFoundError, OverloadedError
from argus.gateway.problems import KINDS, answer, kind_of, problem


def tree(root: type[ArgusError] = ArgusError) -> Iterator[type[ArgusError]]:
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from tree(child)


def test_every_error_of_the_tree_has_a_row_of_its_own() -> None:
    assert {cls for cls, _ in KINDS} == set(tree())
    assert len(KINDS) == len(set(tree()))


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.UnavailableError("x"), 503),
        (errors.DeadlineError("x"), 504),
        (errors.OverloadedError("x", 1), 429),
        (errors.UnauthenticatedError("x"), 401),
        (errors.PermissionDeniedError("x"), 403),
        (errors.InternalError("x"), 500),
        (ArgusError("x"), 500),
        (RuntimeError("x"), 500),
    ],
)
def test_statuses(error: Exception, status: int) -> None:
    assert kind_of(error).status == status
    assert problem(error)["status"] == status


def test_nothing_of_a_bug_leaves_the_server() -> None:
    assert "secret" not in str(problem(RuntimeError("secret path /etc")))


def test_fields_are_named_as_the_body_names_them() -> None:
    told = problem(InvalidArgumentError("deadline_s", "must be above 0"))
    assert told["errors"] == [{"field": "deadline", "detail": "must be above 0"}]
    assert told["error"]["param"] == "deadline"
    told = problem(errors.DeadlineError("deadline_s: 1 s is too short"))
    assert told["detail"] == "deadline: 1 s is too short"
    told = problem(NotFoundError("variant", "sdxll", ["sdxl"]))
    assert told["detail"].startswith("model: unknown 'sdxll' (did you mean 'sdxl'?)")


@pytest.mark.parametrize(
    ("seconds", "whole", "thousandths"), [(0.1, "1", "100"), (2.0001, "3", "2001")]
)
def test_nobody_is_told_to_come_back_too_early(
    seconds: float, whole: str, thousandths: str
) -> None:
    headers = answer(OverloadedError("full", seconds)).headers
    assert (headers["retry-after"], headers["retry-after-ms"]) == (whole, thousandths)


def test_whoever_has_no_key_is_told_how_to_present_one() -> None:
    assert answer(errors.UnauthenticatedError("x")).headers["www-authenticate"] == "Bearer"
