"""What Argus says of a request while it is traced, and what is said when it is not: nothing.

A span is a piece of a request's way with a beginning and an end. Where it goes on in another
process the W3C's traceparent is handed over, as metadata of a call or in a message.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

TRACEPARENT = "traceparent"
MAX_TRACEPARENT_CHARS = 256
"""Longer ones are nobody's; version 00 has 55."""

Value = str | bool | int | float


class Kind(enum.Enum):
    """Where a span stands."""

    INSIDE = "internal"
    CLIENT = "client"
    """It asks another process."""
    SERVER = "server"
    """It answers one."""


class Span(Protocol):
    """A piece of a request's way. May be used from any thread; after its end it does nothing."""

    @property
    def traceparent(self) -> str:
        """What another process needs to go on from here; empty where nothing is traced."""
        ...

    def note(self, **attributes: Value) -> None:
        """Say something about it. Never a prompt."""
        ...

    def child(self, name: str, **attributes: Value) -> Span:
        """Begin a piece of it."""
        ...

    def active(self) -> AbstractContextManager[object]:
        """Make it the parent, inside the block, of what begins without naming one."""
        ...

    def fail(self, why: str) -> None:
        """Say that it went wrong."""
        ...

    def end(self) -> None:
        """It is over."""
        ...


class Tracer(Protocol):
    """Where spans begin."""

    @property
    def on(self) -> bool:
        """Whether anything comes of them."""
        ...

    def start(self, name: str, kind: Kind, traceparent: str = "", **attributes: Value) -> Span:
        """Begin a span.

        Args:
            name: what is done.
            kind: where it stands.
            traceparent: where it goes on from; empty: from the active span of this process, if
                any. One that cannot be read is as good as none.
            attributes: what is known of it.
        """
        ...

    def close(self) -> None:
        """Send what has ended and not been sent; takes up to seconds."""
        ...


class NoSpan:
    """Nothing is traced."""

    traceparent = ""

    def note(self, **attributes: Value) -> None:
        """Do nothing."""

    def child(self, name: str, **attributes: Value) -> NoSpan:
        """Return itself."""
        return self

    def active(self) -> AbstractContextManager[object]:
        """Do nothing."""
        return nullcontext()

    def fail(self, why: str) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""


class NoTracer:
    """Traces nothing."""

    on = False

    def start(self, name: str, kind: Kind, traceparent: str = "", **attributes: Value) -> NoSpan:
        """Return a span that does nothing."""
        return NO_SPAN

    def close(self) -> None:
        """Do nothing."""


NO_SPAN = NoSpan()
OFF = NoTracer()


@contextmanager
def ending(span: Span) -> Iterator[Span]:
    """End a span with the block; an exception that leaves it is said, its words are not.

    Words may quote what a client sent; the error's kind is enough to look further.
    """
    try:
        yield span
    except (GeneratorExit, asyncio.CancelledError):
        span.note(left_early=True)
        raise
    except BaseException as error:
        span.fail(type(error).__name__)
        raise
    finally:
        span.end()


def carried(span: Span) -> tuple[tuple[str, str], ...]:
    """Return the metadata that takes a span to the server of a call."""
    return ((TRACEPARENT, span.traceparent),) if span.traceparent else ()


def traceparent_in(metadata: Iterable[tuple[str, Any]] | None) -> str:
    """Return the traceparent of a call's metadata; empty where there is none."""
    for name, value in metadata or ():
        if name == TRACEPARENT and len(value) <= MAX_TRACEPARENT_CHARS:
            return str(value)
    return ""
