"""Profiles survive their file; one that makes no sense is refused with source and field."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from argus.control.profile import (
    Circumstances,
    CostProfile,
    SizeCosts,
    StateCosts,
    VariantProfile,
)
from argus.errors import ConfigError
from argus.types import StepCosts


def size(side: int, **changes: Any) -> SizeCosts:
    fields: dict[str, Any] = {
        "width": side,
        "height": 2 * side,
        "steps": StepCosts((1, 2, 4), (0.1, 0.125, 0.2)),
        "step_peak_bytes": (100, 0, None),
        "decode_s": 0.3,
        "decode_peak_bytes": 7,
        "compress_s": {"png": 0.02, "jpeg": 0.001},
        "state": StateCosts(131_072, 2e-6, 3e-6),
    }
    return SizeCosts(**(fields | changes))


PROFILE = CostProfile(
    Circumstances(
        date="2026-01-02T03:04:05+00:00",
        command="argus profile --model /models/sd15",
        device="cuda:0",
        device_name="a device",
        memory_bytes=80 * 2**30,
        threads=4,
        dtype="float16",
        system="Linux x86_64",
        bytes_measured="not measured: nobody knows",
        versions={"torch": "2.13.0"},
    ),
    (
        VariantProfile("sd15", "StableDiffusionPipeline", 4.5, 2**31, 0.01, True, (size(512),)),
        VariantProfile(
            *("sd15-small", "StableDiffusionPipeline", 2.5, None, 0.01, False),
            (size(512), size(64, decode_peak_bytes=None)),
        ),
    ),
)


def test_a_profile_survives_its_file() -> None:
    text = PROFILE.to_json()
    assert CostProfile.from_json(text, "f") == PROFILE
    assert json.loads(text)["schema"] == 1


Spoil = Callable[[dict[str, Any]], object]


def variant(data: dict[str, Any]) -> dict[str, Any]:
    return data["variants"][1]


def first_size(data: dict[str, Any]) -> dict[str, Any]:
    return variant(data)["sizes"][0]


WRONG: list[tuple[str, Spoil]] = [
    ("schema: 1 is read here, not 2", lambda d: d.update(schema=2)),
    ("schema: missing", lambda d: d.pop("schema")),
    ("schema: must be a whole number", lambda d: d.update(schema=True)),
    ("variant: unknown field (did you mean 'variants'?)", lambda d: d.update(variant=[])),
    ("variants: a list with at least one entry is needed", lambda d: d.update(variants=[])),
    ("circumstances.threads: must be a whole", lambda d: d["circumstances"].update(threads=0)),
    ("circumstances.device: text is needed", lambda d: d["circumstances"].update(device="")),
    (
        "circumstances.versions.torch: text",
        lambda d: d["circumstances"]["versions"].update(torch=2),
    ),
    ("circumstances.versions: an object", lambda d: d["circumstances"].update(versions=["x"])),
    ("variants[1].load_s: must be above 0", lambda d: variant(d).update(load_s=0)),
    ("variants[1].load_s: must be above 0", lambda d: variant(d).update(load_s=float("nan"))),
    ("variants[1].load_s: must be above 0", lambda d: variant(d).update(load_s=10**400)),
    ("variants[1].exact: must be true or false", lambda d: variant(d).update(exact=1)),
    ("variants[1].weights_bytes: must be", lambda d: variant(d).update(weights_bytes=-1)),
    ("variants[1].sizes: a list", lambda d: variant(d).update(sizes={})),
    ("variants[1].sizes[0]: an object", lambda d: variant(d).update(sizes=[3])),
    ("sizes[0].width: must be a whole", lambda d: first_size(d).update(width=1.5)),
    ("sizes[0].steps: missing", lambda d: first_size(d).pop("steps")),
    ("sizes[0].steps.lanes[0]: must be", lambda d: first_size(d)["steps"].update(lanes=[0, 1, 2])),
    ("sizes[0].steps: lane counts must", lambda d: first_size(d)["steps"].update(lanes=[1, 2, 2])),
    ("sizes[0].steps: step costs need", lambda d: first_size(d)["steps"].update(lanes=[1, 2])),
    ("steps.seconds[1]: must be", lambda d: first_size(d)["steps"].update(seconds=[1, "2", 3])),
    ("step_peak_bytes: one for each of 3", lambda d: first_size(d).update(step_peak_bytes=[1])),
    ("step_peak_bytes[1]: must be", lambda d: first_size(d).update(step_peak_bytes=[1, -1, 1])),
    ("compress_s.png: must be", lambda d: first_size(d)["compress_s"].update(png=-1)),
    ("state.to_host_s: must be", lambda d: first_size(d)["state"].update(to_host_s=None)),
]


@pytest.mark.parametrize(("words", "spoil"), WRONG, ids=[words for words, _ in WRONG])
def test_what_makes_no_sense_is_refused_by_source_and_field(words: str, spoil: Spoil) -> None:
    data = json.loads(PROFILE.to_json())
    spoil(data)
    with pytest.raises(ConfigError) as caught:
        CostProfile.from_json(json.dumps(data), "costs.json")
    assert str(caught.value).startswith("costs.json: ")
    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3"])
def test_what_is_no_profile_at_all_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^costs\.json: "):
        CostProfile.from_json(text, "costs.json")
