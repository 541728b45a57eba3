"""What the SDK traces of a request: one span from the first attempt to the image."""

from __future__ import annotations

from argus.client.events import Event, Image
from argus.tracing.spans import Kind, Span, Tracer
from argus.types import ImageRequest

NAME = "argus.client"


def start_span(tracer: Tracer, request: ImageRequest) -> Span:
    """Begin the span of a request."""
    span = tracer.start(NAME, Kind.CLIENT, request_id=request.request_id)
    if request.deadline_s is not None:
        span.note(deadline_s=request.deadline_s)
    return span


def note_event(span: Span, event: Event) -> None:
    """Note what came of it; with the image it is over, whether or not more is read."""
    if isinstance(event, Image):
        made = event.result
        span.note(
            variant=made.variant,
            level=made.level,
            steps=made.steps,
            node=made.node,
            attempts=made.attempts,
        )
        span.end()
