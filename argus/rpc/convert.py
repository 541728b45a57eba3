"""Requests, variants and formats: protos to value types and back."""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from argus.errors import InvalidArgumentError
from argus.rpc.checks import MAX_UINT32, check_image_request, shown
from argus.types import ImageFormat, ImageRequest, VariantInfo
from argus.v1 import image_pb2

_FORMATS = {
    image_pb2.IMAGE_FORMAT_PNG: ImageFormat.PNG,
    image_pb2.IMAGE_FORMAT_WEBP: ImageFormat.WEBP,
    image_pb2.IMAGE_FORMAT_JPEG: ImageFormat.JPEG,
}
MAX_DIGITS = len(str(MAX_UINT32))
_WIRE_FORMATS = {image_format: wire for wire, image_format in _FORMATS.items()}


def new_request_id() -> str:
    """Return a request id that nobody else has."""
    return uuid.uuid4().hex


def image_request_from_proto(message: image_pb2.GenerateRequest) -> ImageRequest:
    """Return a client's request, checked field by field; an empty id is replaced by a new one.

    What depends on the variant (sizes, sampler and names that exist) is left to whoever knows it.

    Raises:
        InvalidArgumentError: names the field and what is allowed.
    """
    request = ImageRequest(
        request_id=message.request_id or new_request_id(),
        prompt=message.prompt,
        negative_prompt=message.negative_prompt,
        seed=message.seed if message.HasField("seed") else None,
        width=message.width or None,
        height=message.height or None,
        steps=message.steps if message.HasField("steps") else None,
        guidance=message.guidance if message.HasField("guidance") else None,
        sampler=message.sampler,
        variant=message.variant,
        level=message.level,
        deadline_s=message.deadline_s if message.HasField("deadline_s") else None,
        min_quality=message.min_quality if message.HasField("min_quality") else None,
        format=image_format_from_proto(message.format),
        preview_every=message.preview_every,
        eta=message.eta,
        guidance_rescale=message.guidance_rescale,
        true_guidance=message.true_guidance if message.HasField("true_guidance") else 1.0,
        tenant=message.tenant,
    )
    check_image_request(request)
    return request


def image_request_to_proto(request: ImageRequest) -> image_pb2.GenerateRequest:
    """Return the message for a request.

    Raises:
        InvalidArgumentError: a field that every server would refuse.
    """
    check_image_request(request)
    return checked_request_to_proto(request)


def checked_request_to_proto(request: ImageRequest) -> image_pb2.GenerateRequest:
    """Return the message for a request that was checked when it came."""
    return image_pb2.GenerateRequest(
        request_id=request.request_id,
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        seed=request.seed,
        width=request.width or 0,
        height=request.height or 0,
        steps=request.steps,
        guidance=request.guidance,
        sampler=request.sampler,
        variant=request.variant,
        level=request.level,
        deadline_s=request.deadline_s,
        min_quality=request.min_quality,
        format=image_format_to_proto(request.format),
        preview_every=request.preview_every,
        eta=request.eta,
        guidance_rescale=request.guidance_rescale,
        true_guidance=request.true_guidance,
        tenant=request.tenant,
    )


def image_format_from_proto(wire: image_pb2.ImageFormat.ValueType) -> ImageFormat:
    """Return the format; unspecified means PNG.

    Raises:
        InvalidArgumentError: a number this version does not know.
    """
    if wire == image_pb2.IMAGE_FORMAT_UNSPECIFIED:
        return ImageFormat.PNG
    if wire not in _FORMATS:
        raise InvalidArgumentError("format", f"must be one of {format_names()}, not number {wire}")
    return _FORMATS[wire]


def image_format_to_proto(image_format: ImageFormat) -> image_pb2.ImageFormat.ValueType:
    """Return the format's number on the wire."""
    return _WIRE_FORMATS[image_format]


def parse_image_format(name: str) -> ImageFormat:
    """Return the format of that name.

    Raises:
        InvalidArgumentError: lists the names there are.
    """
    try:
        return ImageFormat(name)
    except ValueError as error:
        raise InvalidArgumentError(
            "format", f"must be one of {format_names()}, not {shown(name)}"
        ) from error


def format_names() -> str:
    """Return the names of all formats, for messages."""
    return ", ".join(image_format.value for image_format in ImageFormat)


def parse_size(text: str) -> tuple[int, int]:
    """Return width and height in pixels of `WxH`.

    Raises:
        InvalidArgumentError: `text` is not of that form, or a side is out of range.
    """
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isascii() and side.isdigit() for side in sides):
        raise InvalidArgumentError(
            "size", f"must be WIDTHxHEIGHT in pixels, such as 64x64, not {shown(text)}"
        )
    # Python refuses to read numbers of thousands of digits.
    if not all(len(side) <= MAX_DIGITS and 0 < int(side) <= MAX_UINT32 for side in sides):
        raise InvalidArgumentError(
            "size",
            f"width and height must be above 0 and at most {MAX_UINT32:,} pixels, "
            f"not {shown(text)}",
        )
    return int(sides[0]), int(sides[1])


def variant_to_proto(
    variant: VariantInfo, levels: Iterable[str] = (), nodes: Iterable[str] = ()
) -> image_pb2.Variant:
    """Return the message for a variant, with its levels (best first) and the nodes that hold it."""
    return image_pb2.Variant(
        name=variant.name,
        pipeline=variant.pipeline,
        width=variant.width,
        height=variant.height,
        size_multiple=variant.size_multiple,
        max_size=variant.max_size,
        samplers=variant.samplers,
        default_sampler=variant.default_sampler,
        default_steps=variant.default_steps,
        default_guidance=variant.default_guidance,
        guidance_embedded=variant.guidance_embedded,
        accepts=variant.accepts,
        weights=variant.weights,
        levels=levels,
        nodes=nodes,
    )


def variant_from_proto(message: image_pb2.Variant) -> VariantInfo:
    """Return what a variant is and allows; its levels and nodes are read off the message."""
    return VariantInfo(
        name=message.name,
        pipeline=message.pipeline,
        width=message.width,
        height=message.height,
        size_multiple=message.size_multiple,
        max_size=message.max_size,
        samplers=tuple(message.samplers),
        default_sampler=message.default_sampler,
        default_steps=message.default_steps,
        default_guidance=message.default_guidance,
        guidance_embedded=message.guidance_embedded,
        accepts=tuple(message.accepts),
        weights=message.weights,
    )
