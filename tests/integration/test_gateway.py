"""The gateway of `argus up` before the bundled models, through OpenAI's own client."""

from __future__ import annotations

import base64
import io
import time
import urllib.request
from collections.abc import Iterator

import numpy as np
import openai
import pytest
from local_cluster import LocalCluster
from openai.types import ImageGenCompletedEvent, ImageGenPartialImageEvent
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from argus.client import Client

from .conftest import pixels

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def client(bundled: LocalCluster) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"http://{bundled.http}/v1", api_key="none", max_retries=0
    ) as client:
        yield client


def test_pictures_are_those_of_the_sdk(bundled: LocalCluster, client: openai.OpenAI) -> None:
    answer = client.images.generate(
        model="scenes-base",
        prompt="a red circle",
        n=2,
        size="64x64",
        extra_body={"seed": 7, "steps": 12, "guidance": 2.0},
    )
    assert answer.data is not None
    assert answer.output_format == "png"
    with Client(bundled.address) as sdk:
        for position, image in enumerate(answer.data):
            same = sdk.generate(
                "a red circle", variant="scenes-base", seed=7 + position, steps=12, guidance=2.0
            )
            assert image.b64_json is not None
            assert np.array_equal(pixels(base64.b64decode(image.b64_json)), pixels(same.data))
            assert image.to_dict()["argus"]["seed"] == 7 + position  # type: ignore[index]


def test_a_stream_shows_unfinished_pictures_and_then_the_finished_one(
    client: openai.OpenAI,
) -> None:
    events = list(
        client.images.generate(
            prompt="a blue square",
            stream=True,
            partial_images=2,
            output_format="webp",
            extra_body={"seed": 3, "steps": 12, "model": "scenes-small"},
        )
    )
    *partial, last = events
    assert [type(event) for event in partial] == [ImageGenPartialImageEvent] * 2
    assert [event.partial_image_index for event in partial] == [0, 1]
    for event in partial:
        assert Image.open(io.BytesIO(base64.b64decode(event.b64_json))).format == "JPEG"
    assert isinstance(last, ImageGenCompletedEvent)
    assert last.usage.total_tokens == 0
    finished = Image.open(io.BytesIO(base64.b64decode(last.b64_json)))
    assert (finished.format, finished.size) == ("WEBP", (64, 64))


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["scenes-base", "scenes-small"]
    assert client.models.retrieve("scenes-small").owned_by == "argus"


def test_errors_are_those_that_the_client_knows(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        client.images.generate(prompt="x", size="63x64")  # type: ignore[call-overload]
    assert (bad.value.param, bad.value.code) == ("size", "invalid_value")
    assert bad.value.type == "invalid_request_error"
    with pytest.raises(openai.BadRequestError, match="from another replica"):
        client.images.generate(prompt="x", response_format="url")
    with pytest.raises(openai.NotFoundError) as missing:
        client.images.generate(prompt="x", model="scenes-bass")
    assert missing.value.code == "model_not_found"
    assert "did you mean 'scenes-base'?" in missing.value.message
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nope")
    with pytest.raises(openai.InternalServerError) as late:
        client.images.generate(prompt="x", extra_body={"deadline": 0.001})
    assert late.value.status_code == 504
    with pytest.raises(openai.NotFoundError):
        list(client.images.generate(prompt="x", model="nope", stream=True))


def test_the_node_says_what_its_steps_took(bundled: LocalCluster, client: openai.OpenAI) -> None:
    """The coordinator's port moves on where the default is taken; its log says where to."""
    client.images.generate(prompt="x", extra_body={"steps": 5, "model": "scenes-small", "seed": 1})
    (line,) = [line for line in bundled.log.splitlines() if "metrics at " in line]
    # A node says what its steps took with its heartbeats, some time after the picture.
    give_up_at = time.monotonic() + 30
    while True:
        with urllib.request.urlopen(line.rsplit(" ", 1)[1]) as answer:
            families = {f.name: f for f in text_string_to_metric_families(answer.read().decode())}
        steps = {
            (s.labels["variant"], s.name): s.value
            for s in families["argus_node_step_seconds"].samples
            if not s.name.endswith("_bucket")
        }
        count = steps.get(("scenes-small", "argus_node_step_seconds_count"), 0.0)
        if count >= 5 or time.monotonic() > give_up_at:
            break
        time.sleep(0.2)
    assert count >= 5
    assert 0 < steps["scenes-small", "argus_node_step_seconds_sum"] / count < 10
    lanes = {s.labels["variant"]: s.value for s in families["argus_node_step_lanes"].samples}
    assert lanes["scenes-small"] >= count
    for part in ("decode", "encode"):
        samples = {s.name: s.value for s in families[f"argus_node_{part}_seconds"].samples}
        assert samples[f"argus_node_{part}_seconds_count"] >= 1
        assert samples[f"argus_node_{part}_seconds_sum"] > 0
