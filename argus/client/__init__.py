"""The SDK: ask Argus for images from Python.

from argus import Client

with Client("127.0.0.1:7420") as client:
    client.generate("a red circle", seed=7).save("a.png")
"""

from argus.client.aio import AsyncClient
from argus.client.events import Event, Image, Preview, Queued, Started, Step, Warning
from argus.client.result import ImageResult
from argus.client.retries import Retries
from argus.client.sync import Client
from argus.client.variants import Variant

__all__ = [
    "AsyncClient",
    "Client",
    "Event",
    "Image",
    "ImageResult",
    "Preview",
    "Queued",
    "Retries",
    "Started",
    "Step",
    "Variant",
    "Warning",
]
