"""The SDK: ask Argus for images from Python.

from argus.client import ArgusError, Client

with Client("127.0.0.1:7420") as client:
    try:
        client.generate("a red circle", seed=7).save("a.png")
    except ArgusError as error:
        print(error)

What can be raised, all of it an ArgusError and the same classes as in `argus.errors`:

InvalidArgumentError, NotFoundError: a field holds what is not allowed or does not exist; `.field`.
OverloadedError: no room, or no level could be on time; `.retry_after_s`.
UnavailableError: no server, or no node that could help; after the retries.
DeadlineError: the deadline passed, or can no longer be met.
CancelledError: the request was given up.
FailedPreconditionError, AlreadyExistsError: the state of the server forbids the call.
UnauthenticatedError, PermissionDeniedError: the server wants other credentials.
InternalError: a fault of Argus, of a device or of a model.
"""

from argus.client.aio import AsyncClient
from argus.client.events import Event, Image, Preview, Queued, Started, Step, Warning
from argus.client.request import Options
from argus.client.result import Failure, ImageResult
from argus.client.retries import Retries
from argus.client.sync import Client
from argus.client.variants import Variant
from argus.errors import (
    AlreadyExistsError,
    ArgusError,
    CancelledError,
    DeadlineError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
)

__all__ = [
    "AlreadyExistsError",
    "ArgusError",
    "AsyncClient",
    "CancelledError",
    "Client",
    "DeadlineError",
    "Event",
    "FailedPreconditionError",
    "Failure",
    "Image",
    "ImageResult",
    "InternalError",
    "InvalidArgumentError",
    "NotFoundError",
    "Options",
    "OverloadedError",
    "PermissionDeniedError",
    "Preview",
    "Queued",
    "Retries",
    "Started",
    "Step",
    "UnauthenticatedError",
    "UnavailableError",
    "Variant",
    "Warning",
]
