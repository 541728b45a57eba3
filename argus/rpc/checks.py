"""Checks of the fields of a request. Each raises InvalidArgumentError and clamps nothing."""

from __future__ import annotations

import math
import operator
import re
from typing import Any

from argus.errors import InvalidArgumentError
from argus.types import (
    MAX_DEADLINE_S,
    MAX_GUIDANCE,
    MAX_PROMPT_CHARS,
    MAX_SEED,
    MAX_STEPS,
    ImageRequest,
)

MAX_UINT32 = 2**32 - 1
MAX_NAME_CHARS = 128
SHOWN_CHARS = 60
NUL = "\0"
TENANT = re.compile(r"[A-Za-z0-9._-]{0,64}")
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def check_image_request(request: ImageRequest) -> None:
    """Check everything that can be checked without knowing the variant.

    Raises:
        InvalidArgumentError: names the first field that is not allowed and what would be.
    """
    check_request_id(request.request_id)
    check_text("prompt", request.prompt)
    if not request.prompt.strip():
        raise InvalidArgumentError(
            "prompt", f"must have 1 to {MAX_PROMPT_CHARS:,} characters, not only white space"
        )
    check_text("negative_prompt", request.negative_prompt)
    check_whole("seed", request.seed, 0, MAX_SEED)
    check_whole("width", request.width, 1, MAX_UINT32)
    check_whole("height", request.height, 1, MAX_UINT32)
    check_whole("steps", request.steps, 1, MAX_STEPS)
    check_number("guidance", request.guidance, 0.0, MAX_GUIDANCE)
    for field in ("sampler", "variant", "level"):
        check_text(field, getattr(request, field), MAX_NAME_CHARS)
    check_number("deadline_s", request.deadline_s, 0.0, MAX_DEADLINE_S, above_low=True)
    check_number("min_quality", request.min_quality, 0.0, 1.0)
    check_whole("preview_every", request.preview_every, 0, MAX_UINT32)
    check_number("eta", request.eta, 0.0, 1.0)
    check_number("guidance_rescale", request.guidance_rescale, 0.0, 1.0)
    check_number("true_guidance", request.true_guidance, 0.0, MAX_GUIDANCE)
    if not isinstance(request.tenant, str) or not TENANT.fullmatch(request.tenant):
        raise InvalidArgumentError(
            "tenant",
            f"must be at most 64 characters of [A-Za-z0-9._-], not {shown(request.tenant)}",
        )


def check_request_id(request_id: str) -> None:
    """Raise unless it is 1 to 128 characters of [A-Za-z0-9._:-]."""
    if not isinstance(request_id, str) or not REQUEST_ID.fullmatch(request_id):
        raise InvalidArgumentError(
            "request_id",
            f"must be 1 to 128 characters of [A-Za-z0-9._:-], not {shown(request_id)}",
        )


def check_text(field: str, text: str, limit: int = MAX_PROMPT_CHARS) -> None:
    """Raise unless it is a string of at most `limit` characters, all in UTF-8 and none NUL."""
    if not isinstance(text, str):
        raise InvalidArgumentError(field, f"must be text, not {shown(text)}")
    if len(text) > limit:
        raise InvalidArgumentError(
            field, f"must have at most {limit:,} characters, not {len(text):,}"
        )
    if NUL in text:
        raise InvalidArgumentError(
            field, f"must be text; character {text.index(NUL) + 1} is a NUL character"
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(
            field, f"must be text in UTF-8; character {error.start + 1} is not"
        ) from error


def check_whole(field: str, value: int | None, low: int, high: int) -> None:
    """Raise unless `value` is None or a whole number from `low` to `high`."""
    if value is None:
        return
    wanted = f"must be a whole number of {low:,} to {high:,}, not {shown(value)}"
    if isinstance(value, bool):
        raise InvalidArgumentError(field, wanted)
    try:
        number = operator.index(value)
    except TypeError as error:
        raise InvalidArgumentError(field, wanted) from error
    if not low <= number <= high:
        raise InvalidArgumentError(field, wanted)


def check_size(size: Any) -> None:
    """Raise unless it is a width and a height that the wire can carry, in pixels."""
    if not isinstance(size, tuple | list) or len(size) != 2:
        raise InvalidArgumentError(
            "size", f'must be (width, height) or "WIDTHxHEIGHT" in pixels, not {shown(size)}'
        )
    for side in size:
        check_whole("size", side, 1, MAX_UINT32)


def check_number(
    field: str, value: float | None, low: float, high: float, above_low: bool = False
) -> None:
    """Raise unless `value` is None or a finite number in range; `above_low` excludes `low`."""
    if value is None:
        return
    span = f"above {low:,g} and at most {high:,g}" if above_low else f"{low:,g} to {high:,g}"
    wanted = f"must be a number {span}, not {shown(value)}"
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidArgumentError(field, wanted)
    if not low <= value <= high or (above_low and value == low):
        raise InvalidArgumentError(field, wanted)


def shown(value: Any) -> str:
    """Return `value` as it can be shown in a message: short, on one line."""
    text = ascii(value)
    return text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS] + "…"
