"""From the body of an HTTP request to what is wanted, every field checked and named."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from hashlib import blake2b
from typing import Any

from argus.client import Options
from argus.client.request import build_request
from argus.client.series import Series, plan_series
from argus.errors import InvalidArgumentError
from argus.rpc.checks import (
    check_image_request,
    check_request_id,
    check_text,
    check_whole,
    shown,
)
from argus.rpc.convert import new_request_id, parse_size
from argus.types import MAX_SEED, ImageFormat

MOST_PARTIALS = 3
"""As OpenAI has it."""
MAX_USER_CHARS = 512
AUTO = "auto"
DRAWN_SEEDS = 2**32
"""Seeds that are not given are below: short enough to be read out, and for JavaScript."""

PASSED_ON = {
    "model": "variant",
    "negative_prompt": "negative_prompt",
    "steps": "steps",
    "guidance": "guidance",
    "seed": "seed",
    "deadline": "deadline_s",
    "min_quality": "min_quality",
    "sampler": "sampler",
    "level": "level",
    "output_format": "format",
    "request_id": "request_id",
    "eta": "eta",
    "guidance_rescale": "guidance_rescale",
    "true_guidance": "true_guidance",
}
"""Options of the SDK by the field that they come from."""

ONLY: Mapping[str, tuple[Any, ...]] = {
    "response_format": ("b64_json",),
    "background": ("auto", "opaque"),
    "moderation": ("auto",),
    "quality": ("auto", "standard"),
    "output_compression": (100,),
}
"""Fields of OpenAI's that are taken with the values that change nothing."""

WHY = {
    "response_format": "a picture at a URL could not be had from another replica",
    "background": "pictures are opaque",
    "moderation": "nothing is moderated",
    "quality": "use min_quality, level or steps",
    "output_compression": "png and webp are without loss, jpeg has quality 95",
}

IGNORED = ("user", "safety_identifier")
"""Fields of OpenAI's that say who the end user is; they are checked and not used."""
OWN = ("prompt", "n", "size", "stream", "partial_images", "progress")
KNOWN = (*OWN, *PASSED_ON, *ONLY, *IGNORED)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a body asks for.

    Attributes:
        prompt: what the pictures show.
        n: how many.
        options: of the SDK, the same for all.
        series: seeds and ids of each.
        stream: whether events are wanted.
        partial_images: most unfinished pictures of each.
        progress: whether events of Argus's own are wanted as well.
    """

    prompt: str
    n: int
    options: Options
    series: Series
    stream: bool = False
    partial_images: int = 0
    progress: bool = False
    warnings: dict[str, list[str]] = field(default_factory=dict)
    """What is worth knowing of each picture, by its request id; filled while it is made."""

    @property
    def format(self) -> ImageFormat:
        """How the pictures are encoded."""
        return ImageFormat(self.options.get("format", ImageFormat.PNG))


def parse_body(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a body; members that are null are left out.

    Raises:
        InvalidArgumentError: it is none; names `body`.
    """
    try:
        data = json.loads(
            body,
            parse_constant=_no_constant,
            parse_float=_number,
            object_pairs_hook=_no_doubles,
        )
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentError("body", f"must be a JSON object: {error}") from error
    if not isinstance(data, dict):
        raise InvalidArgumentError("body", f"must be a JSON object, not {shown(data)}")
    return {name: value for name, value in data.items() if value is not None}


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _number(text: str) -> float | int:
    """Return a number; 20.0 is a whole one to JSON, and to some writers of it."""
    number = float(text)
    return int(number) if number.is_integer() else number


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        raise ValueError("a member is there twice")
    return data


def parse_wanted(
    data: Mapping[str, Any],
    *,
    max_images: int,
    tenant: str = "",
    request_id: str | None = None,
    picture: ImageFormat | None = None,
) -> Wanted:
    """Return what a body asks for, checked as far as can be without knowing the models.

    Args:
        data: the body's members.
        max_images: most that may be asked for at once.
        tenant: whom it is for.
        request_id: of a header; None: that of the body, or a new one.
        picture: format that the answer must have, if its body is to be the picture itself.

    Raises:
        InvalidArgumentError: names the field as the body has it, or as the request has it where
            `argus.gateway.problems.FIELDS` knows the other name.
    """
    _check_known(data)
    prompt = data.get("prompt")
    if prompt is None:
        raise InvalidArgumentError("prompt", "is missing")
    n = data.get("n", 1)
    check_whole("n", n, 1, max_images)
    options: Any = {PASSED_ON[name]: data[name] for name in data if name in PASSED_ON}
    options |= _size(data.get("size", AUTO))
    options["tenant"] = tenant
    if request_id is not None:
        _check_agrees("request_id", data.get("request_id", request_id), request_id)
        options["request_id"] = request_id
    if picture is not None:
        _check_agrees("output_format", data.get("output_format", picture.value), picture.value)
        options["format"] = picture
    stream = _truth(data, "stream")
    partials = data.get("partial_images", 0)
    check_whole("partial_images", partials, 0, MOST_PARTIALS)
    progress = _truth(data, "progress")
    for name, value in (("partial_images", partials), ("progress", progress)):
        if value and not stream:
            raise InvalidArgumentError(name, "needs stream to be true")
    if picture is not None and (n > 1 or stream):
        name = "stream" if stream else "n"
        raise InvalidArgumentError(name, "an answer that is the picture itself holds just one")
    series = _checked_series(prompt, options, n)
    return Wanted(prompt, n, options, series, stream, partials, progress)


def _check_known(data: Mapping[str, Any]) -> None:
    for name, value in data.items():
        if name not in KNOWN:
            near = get_close_matches(name, KNOWN, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise InvalidArgumentError(name[:60], f"there is no such field{hint}")
        if name in ONLY and value not in ONLY[name]:
            allowed = " or ".join(str(one) for one in ONLY[name])
            raise InvalidArgumentError(name, f"must be {allowed}, not {shown(value)}: {WHY[name]}")
        if name in IGNORED:
            check_text(name, value, MAX_USER_CHARS)


def _check_agrees(name: str, inside: Any, outside: str) -> None:
    if inside != outside:
        raise InvalidArgumentError(
            name, f"the body says {shown(inside)}, the headers {shown(outside)}"
        )


def _truth(data: Mapping[str, Any], name: str) -> bool:
    value = data.get(name, False)
    if not isinstance(value, bool):
        raise InvalidArgumentError(name, f"must be true or false, not {shown(value)}")
    return value


def _size(value: Any) -> dict[str, tuple[int, int]]:
    if value == AUTO:
        return {}
    if not isinstance(value, str):
        raise InvalidArgumentError("size", f'must be auto or "WIDTHxHEIGHT", not {shown(value)}')
    return {"size": parse_size(value)}


def _checked_series(prompt: str, options: Options, n: int) -> Series:
    """Return the series, with its first and last request checked as the coordinator would.

    A seed that is not given follows from the request id, so that asking again asks for the same.
    """
    request_id = options.get("request_id")
    if request_id is None:
        request_id = new_request_id()
    check_request_id(request_id)
    seed = options.get("seed")
    check_whole("seed", seed, 0, MAX_SEED)
    if seed is None:
        digest = blake2b(request_id.encode(), digest_size=8).digest()
        seed = int.from_bytes(digest, "big") % (DRAWN_SEEDS - n)
    series = plan_series(seed, request_id, n)
    build: Callable[..., Any] = build_request
    for position in {0, n - 1}:
        check_image_request(build(prompt, **{**options, **series.options(position)}))
    return series
