"""A finished image and how it was made."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from argus.errors import ArgusError, InvalidArgumentError
from argus.rpc.convert import image_format_from_proto
from argus.types import ImageFormat
from argus.v1 import image_pb2

if TYPE_CHECKING:
    import PIL.Image

EXTENSIONS = {
    ".png": ImageFormat.PNG,
    ".webp": ImageFormat.WEBP,
    ".jpg": ImageFormat.JPEG,
    ".jpeg": ImageFormat.JPEG,
}


@dataclass(frozen=True, slots=True)
class ImageResult:
    """A finished image. The fields are those of `argus.v1.Image`, plus the request it answers.

    Attributes:
        request_id: the request this answers.
        prompt: what was asked for.
        data: the encoded picture.
        format: how `data` is encoded.
        width, height: pixels.
        seed: seed used; the same seed gives the same image.
        variant, level, sampler: what made it.
        steps: steps run.
        skipped_steps: steps of the reference level that were not run.
        guidance: guidance scale used.
        predicted_quality: predicted relative quality of the level, 1 = reference.
        node: node that made it.
        queued_s: seconds from acceptance to the first step.
        running_s: seconds from the first step to the encoded image.
        total_s: seconds from acceptance to leaving the coordinator.
        max_lanes: most lanes it shared a forward with, its own included.
        attempts: above 1 when a node was lost.
        similarity: of the prompt to the cached one whose state was continued, as a cosine; 0 where
            none was.
    """

    request_id: str
    prompt: str
    data: bytes
    format: ImageFormat
    width: int
    height: int
    seed: int
    variant: str
    level: str
    sampler: str
    steps: int
    skipped_steps: int
    guidance: float
    predicted_quality: float
    node: str
    queued_s: float
    running_s: float
    total_s: float
    max_lanes: int
    attempts: int
    similarity: float

    @property
    def image(self) -> PIL.Image.Image:
        """The picture, decoded anew at each access."""
        import PIL.Image  # costs more to import than the rest of the SDK

        picture = PIL.Image.open(io.BytesIO(self.data))
        picture.load()
        return picture

    def save(self, path: str | Path) -> None:
        """Write the encoded bytes as they came.

        Raises:
            InvalidArgumentError: the extension of `path` names another image format.
            OSError: the file cannot be written.
        """
        path = Path(path)
        named = EXTENSIONS.get(path.suffix.lower())
        if named not in {None, self.format}:
            raise InvalidArgumentError(
                "path", f"{path.name!r} does not fit an image in {self.format.value} format"
            )
        path.write_bytes(self.data)


@dataclass(frozen=True, slots=True)
class Failure:
    """A prompt of a map that got no image.

    Attributes:
        position: of the prompt, from 0.
        prompt: what was asked for.
        error: why there is no image.
    """

    position: int
    prompt: str
    error: ArgusError


def result_from_proto(request_id: str, prompt: str, message: image_pb2.Image) -> ImageResult:
    """Return the result that the last event of a request carries."""
    return ImageResult(
        request_id=request_id,
        prompt=prompt,
        data=message.data,
        format=image_format_from_proto(message.format),
        width=message.width,
        height=message.height,
        seed=message.seed,
        variant=message.variant,
        level=message.level,
        sampler=message.sampler,
        steps=message.steps,
        skipped_steps=message.skipped_steps,
        guidance=message.guidance,
        predicted_quality=message.predicted_quality,
        node=message.node,
        queued_s=message.queued_s,
        running_s=message.running_s,
        total_s=message.total_s,
        max_lanes=message.max_lanes,
        attempts=message.attempts,
        similarity=message.similarity,
    )
