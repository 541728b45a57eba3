"""Inputs that are almost right: what a parser takes, with something in it changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

R = TypeVar("R")

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""Of every test here; how many examples are tried is left to the profile."""


def refusal(kind: type[Exception], read: Callable[..., R], *args: Any) -> Exception | None:
    """Return the error of that kind with which something is not read, or None where it is."""
    try:
        read(*args)
    except kind as error:
        return error
    return None


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["", "x" * 5000, "../../etc/passwd", "\0", "\ud800", "1e999", "NaN"])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=10,
)  # fmt: skip
DEEP = "[" * 2_000
"""Nested more deeply than Python recurses."""


@st.composite
def bytes_near(draw: st.DrawFn, good: bytes) -> bytes:
    """Return bytes that are cut, have parts changed, doubled or put in, or are made up."""
    data = bytearray(good)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 4)):
            case 0:
                del data[at:]
            case 1:
                data[at:at] = draw(st.binary(max_size=16))
            case 2:
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case 3:
                data[at:at] = data[at : at + draw(st.integers(0, 64))]
            case _:
                del data[at : at + draw(st.integers(0, 64))]
    return draw(st.just(bytes(data)) | st.binary(max_size=200)) if not data else bytes(data)


def text_near(good: str) -> st.SearchStrategy[str]:
    """Return texts near a good one."""
    return bytes_near(good.encode()).map(lambda data: data.decode("utf-8", "replace"))


@st.composite
def json_near(draw: st.DrawFn, good: Any) -> Any:
    """Return a JSON value in which one value, somewhere, is another, is missing or is added."""
    if draw(st.integers(0, 9)) == 0 or not isinstance(good, dict | list) or not good:
        return draw(JSON)
    if isinstance(good, dict):
        name = draw(st.sampled_from(sorted(good)))
        match draw(st.integers(0, 5)):
            case 0:
                return {key: value for key, value in good.items() if key != name}
            case 1:
                return good | {draw(st.text(max_size=8)): draw(JSON)}
            case _:
                return good | {name: draw(json_near(good[name]))}
    at = draw(st.integers(0, len(good) - 1))
    match draw(st.integers(0, 4)):
        case 0:
            return good[:at] + good[at + 1 :]
        case 1:
            return [*good, good[at]]
        case _:
            return [*good[:at], draw(json_near(good[at])), *good[at + 1 :]]
