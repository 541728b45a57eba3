"""Bad requests are refused with the field named; good ones survive the wire unchanged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argus.errors import InvalidArgumentError
from argus.rpc.checks import check_image_request
from argus.rpc.convert import (
    image_format_from_proto,
    image_format_to_proto,
    image_request_from_proto,
    image_request_to_proto,
    parse_image_format,
    parse_size,
    variant_from_proto,
    variant_to_proto,
)
from argus.types import ImageFormat, ImageRequest, VariantInfo
from argus.v1 import image_pb2

BAD_FIELDS = [
    ("request_id", "a b", "[A-Za-z0-9._:-]"),
    ("request_id", "x" * 129, "128"),
    ("request_id", "a\n", "[A-Za-z0-9._:-]"),
    ("prompt", "", "1 to 4,000"),
    ("prompt", " \t\n\u3000", "1 to 4,000"),
    ("prompt", "x" * 4001, "4,000"),
    ("negative_prompt", "x" * 4001, "4,000"),
    ("prompt", "a\0b", "character 2 is a NUL"),
    ("sampler", "ddim\0", "NUL"),
    ("seed", -1, "0 to 9,223,372,036,854,775,807"),
    ("steps", 0, "1 to 1,000"),
    ("steps", 1001, "1 to 1,000"),
    ("guidance", -0.1, "0 to 50"),
    ("guidance", 50.1, "0 to 50"),
    ("guidance", float("nan"), "0 to 50"),
    ("guidance", float("inf"), "0 to 50"),
    ("sampler", "x" * 129, "128"),
    ("variant", "x" * 129, "128"),
    ("level", "x" * 129, "128"),
    ("deadline_s", 0.0, "above 0 and at most 86,400"),
    ("deadline_s", -1.0, "above 0 and at most 86,400"),
    ("deadline_s", 86_401.0, "above 0 and at most 86,400"),
    ("deadline_s", float("nan"), "above 0 and at most 86,400"),
    ("min_quality", -0.01, "0 to 1"),
    ("min_quality", 1.01, "0 to 1"),
    ("min_quality", float("-inf"), "0 to 1"),
    ("format", 17, "png, webp, jpeg"),
    ("eta", -0.1, "0 to 1"),
    ("eta", 1.1, "0 to 1"),
    ("guidance_rescale", float("nan"), "0 to 1"),
    ("guidance_rescale", 1.1, "0 to 1"),
    ("true_guidance", -1.0, "0 to 50"),
    ("true_guidance", 50.1, "0 to 50"),
]


@pytest.mark.parametrize(("field", "value", "allowed"), BAD_FIELDS)
def test_a_bad_field_is_refused_by_name(field: str, value: Any, allowed: str) -> None:
    message = image_pb2.GenerateRequest(prompt="a red circle")
    setattr(message, field, value)
    with pytest.raises(InvalidArgumentError) as caught:
        image_request_from_proto(message)
    assert caught.value.field == field
    assert allowed in caught.value.description
    assert len(str(caught.value)) < 300


BAD_ARGUMENTS = [
    ("request_id", 7),
    ("prompt", None),
    ("prompt", "broken \udcff"),
    ("seed", 1.5),
    ("seed", 2**63),
    ("steps", "20"),
    ("seed", True),
    ("guidance", False),
    ("width", -8),
    ("height", 2**32),
    ("guidance", "5"),
    ("preview_every", -1),
    ("eta", "0.5"),
    ("guidance_rescale", True),
    ("true_guidance", 1j),
]


@pytest.mark.parametrize(("field", "value"), BAD_ARGUMENTS)
def test_what_the_wire_cannot_carry_is_refused_before_it(field: str, value: Any) -> None:
    request = replace(ImageRequest(request_id="1", prompt="a red circle"), **{field: value})
    with pytest.raises(InvalidArgumentError) as caught:
        image_request_to_proto(request)
    assert caught.value.field == field


GOOD_FIELDS = [
    ("request_id", "aZ09._:-" * 16),
    ("prompt", "x" * 4000),
    ("prompt", "ein roter Kreis, 赤い円 🔴\n"),
    ("seed", 0),
    ("seed", 2**63 - 1),
    ("steps", 1),
    ("steps", 1000),
    ("guidance", 0.0),
    ("guidance", 50.0),
    ("deadline_s", 0.001),
    ("deadline_s", 86_400.0),
    ("min_quality", 0.0),
    ("min_quality", 1.0),
    ("preview_every", 5),
    ("eta", 0.0),
    ("eta", 1.0),
    ("guidance_rescale", 1.0),
    ("true_guidance", 0.0),
    ("true_guidance", 50.0),
]


@pytest.mark.parametrize(("field", "value"), GOOD_FIELDS)
def test_the_limits_themselves_are_allowed(field: str, value: Any) -> None:
    message = image_pb2.GenerateRequest(prompt="a red circle")
    setattr(message, field, value)
    assert getattr(image_request_from_proto(message), field) == value


def test_what_is_absent_stays_absent_and_an_id_is_made() -> None:
    message = image_pb2.GenerateRequest(prompt="a red circle")
    first, second = image_request_from_proto(message), image_request_from_proto(message)
    assert first.request_id != second.request_id
    assert len(first.request_id) == 32
    assert replace(first, request_id="1") == ImageRequest(request_id="1", prompt="a red circle")


TEXT = st.characters(codec="utf-8", exclude_characters="\0")
REQUESTS = st.builds(
    ImageRequest,
    request_id=st.from_regex(r"[A-Za-z0-9._:-]{1,128}", fullmatch=True),
    prompt=st.text(
        TEXT, min_size=1, max_size=50
    ).filter(lambda text: text.strip()),
    negative_prompt=st.text(TEXT, max_size=50),
    seed=st.none() | st.integers(0, 2**63 - 1),
    width=st.none() | st.integers(1, 2**32 - 1),
    height=st.none() | st.integers(1, 2**32 - 1),
    steps=st.none() | st.integers(1, 1000),
    guidance=st.none() | st.floats(0, 50),
    sampler=st.sampled_from(["", "ddim"]),
    variant=st.sampled_from(["", "base"]),
    level=st.sampled_from(["", "base-25"]),
    deadline_s=st.none() | st.floats(0, 86_400, exclude_min=True),
    min_quality=st.none() | st.floats(0, 1),
    format=st.sampled_from(ImageFormat),
    preview_every=st.integers(0, 2**32 - 1),
    eta=st.floats(0, 1),
    guidance_rescale=st.floats(0, 1),
    true_guidance=st.floats(0, 50),
)  # fmt: skip


@given(REQUESTS)
def test_every_allowed_request_survives_the_wire(request: ImageRequest) -> None:
    data = image_request_to_proto(request).SerializeToString()
    assert image_request_from_proto(image_pb2.GenerateRequest.FromString(data)) == request
    check_image_request(request)


def test_formats_round_trip_and_unspecified_is_png() -> None:
    for image_format in ImageFormat:
        assert image_format_from_proto(image_format_to_proto(image_format)) is image_format
    assert image_format_from_proto(image_pb2.IMAGE_FORMAT_UNSPECIFIED) is ImageFormat.PNG


def test_a_format_is_read_by_name() -> None:
    assert parse_image_format("webp") is ImageFormat.WEBP
    with pytest.raises(InvalidArgumentError, match="png, webp, jpeg, not 'gif'"):
        parse_image_format("gif")


@pytest.mark.parametrize("text", ["", "64", "64x", "x64", "1x2x3", "-1x3", "6.4x64", "٣x٣"])
def test_a_size_is_width_x_height(text: str) -> None:
    assert parse_size("64x32") == (64, 32)
    assert parse_size("64X32") == (64, 32)
    with pytest.raises(InvalidArgumentError, match="WIDTHxHEIGHT"):
        parse_size(text)


@pytest.mark.parametrize("text", ["0x0", "0x64", "64x4294967296", f"64x{'9' * 5000}"])
def test_the_sides_of_a_size_are_in_range(text: str) -> None:
    assert parse_size("1x4294967295") == (1, 2**32 - 1)
    with pytest.raises(InvalidArgumentError, match="must be above 0 and at most 4,294,967,295"):
        parse_size(text)


def test_variants_round_trip() -> None:
    info = VariantInfo(
        name="base",
        pipeline="StableDiffusionPipeline",
        width=32,
        height=48,
        size_multiple=8,
        max_size=64,
        samplers=("ddim", "euler"),
        default_sampler="ddim",
        default_steps=50,
        default_guidance=5.0,
        guidance_embedded=True,
        accepts=("eta", "true_guidance"),
    )
    message = variant_to_proto(info, levels=["base", "base-25"], nodes=["node-0"])
    assert variant_from_proto(message) == info
    assert list(message.levels) == ["base", "base-25"]
    assert list(message.nodes) == ["node-0"]
