"""What is traced of a request once it is accepted: how long it waits for a node."""

from __future__ import annotations

from argus.tracing.spans import NO_SPAN, Span

QUEUE = "argus.queue"


class FlightTrace:
    """The spans of one accepted request; a replayed one waits several times.

    Args:
        request: the span of the call that brought it.
    """

    __slots__ = ("_request", "_waiting")

    def __init__(self, request: Span = NO_SPAN) -> None:
        self._request = request
        self._waiting: Span = NO_SPAN

    @property
    def traceparent(self) -> str:
        """What its node needs to go on from here."""
        return self._request.traceparent

    def wait(self, losses: int = 0) -> None:
        """Note that it waits for a node, which it lost so many times."""
        self._waiting.end()
        self._waiting = self._request.child(QUEUE, losses=losses)

    def sent(self, node: str, level: str) -> None:
        """Note that it waits no longer: a node has it, at a level."""
        self._waiting.note(node=node, level=level)
        self._waiting.end()

    def end(self, phase: str) -> None:
        """Note how it ended, also where that was while it waited."""
        self._waiting.note(phase=phase)
        self._waiting.end()
