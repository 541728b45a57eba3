"""What happens to a request, as typed events."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from argus.client.result import ImageResult, result_from_proto
from argus.rpc.bundles import unbundle
from argus.v1 import image_pb2


@dataclass(frozen=True, slots=True)
class Queued:
    """Accepted, waiting for a node; `predicted_s` is seconds until the image is done."""

    request_id: str
    ahead: int
    predicted_s: float


@dataclass(frozen=True, slots=True)
class Started:
    """The first step is about to run; `attempt` is above 1 after the loss of a node."""

    request_id: str
    node: str
    variant: str
    level: str
    steps: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Step:
    """`step` of `steps` is done, in a forward of `lanes` lanes."""

    request_id: str
    step: int
    steps: int
    lanes: int


@dataclass(frozen=True, slots=True)
class Preview:
    """The unfinished picture after `step` steps, as JPEG bytes."""

    request_id: str
    step: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Warning:  # the name of the message on the wire
    """Something worth knowing that does not stop the request."""

    request_id: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Image:
    """The finished image; the last event."""

    request_id: str
    result: ImageResult


Event: TypeAlias = Queued | Started | Step | Preview | Warning | Image


def events_from_proto(message: image_pb2.GenerateResponse, prompt: str) -> Iterator[Event]:
    """Iterate over the events that a message holds, without kinds that only a newer SDK knows."""
    for each in unbundle(message):
        event = event_from_proto(each, prompt)
        if event is not None:
            yield event


def event_from_proto(message: image_pb2.GenerateResponse, prompt: str) -> Event | None:
    """Return the event, or None for a kind that a newer server knows and this SDK does not."""
    request_id = message.request_id
    match message.WhichOneof("event"):
        case "queued":
            queued = message.queued
            return Queued(request_id, queued.ahead, queued.predicted_s)
        case "started":
            start = message.started
            return Started(
                request_id, start.node, start.variant, start.level, start.steps, start.attempt
            )
        case "step":
            return Step(request_id, message.step.step, message.step.steps, message.step.lanes)
        case "preview":
            return Preview(request_id, message.preview.step, message.preview.data)
        case "warning":
            return Warning(request_id, message.warning.code, message.warning.message)
        case "image":
            return Image(request_id, result_from_proto(request_id, prompt, message.image))
        case _:
            return None
