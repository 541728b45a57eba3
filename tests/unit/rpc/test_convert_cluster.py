"""Nodes and work survive the wire; a hello that makes no sense is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from argus.errors import FailedPreconditionError, InvalidArgumentError
from argus.rpc.convert_cluster import (
    node_info_from_proto,
    node_info_to_proto,
    work_from_proto,
    work_to_proto,
)
from argus.types import (
    ImageFormat,
    NodeInfo,
    ResolvedRequest,
    StepCosts,
    VariantCosts,
    VariantInfo,
)
from argus.v1 import cluster_pb2


def variant(name: str) -> VariantInfo:
    return VariantInfo(name, "StableDiffusionPipeline", 32, 32, 8, 64, ("ddim",), "ddim", 50, 5.0)


def costs(scale: float) -> VariantCosts:
    return VariantCosts(StepCosts((1, 2, 8), (scale, 1.5 * scale, 4 * scale)), 0.01, 0.02)


NODE = NodeInfo(
    name="node-0",
    device="cuda:0",
    device_name="A device",
    memory_bytes=80 * 2**30,
    slots=16,
    max_lanes=8,
    argus_version="0.1.0",
    variants=(variant("base"), variant("small")),
    costs=(costs(0.02), costs(0.01)),
    weights_budget=2**34,
    weights_bytes=(6 * 2**30, 2**30),
    load_s=(12.5, 3.0),
    pinned=("small",),
)
WORK = ResolvedRequest(
    request_id="r-1",
    attempt=2,
    prompt="a red circle",
    negative_prompt="blue",
    seed=2**63 - 1,
    width=32,
    height=40,
    steps=25,
    guidance=5.5,
    sampler="ddim",
    variant="base",
    level="base-25",
    deadline_s=9.0,
    format=ImageFormat.WEBP,
    preview_every=5,
    eta=0.25,
    guidance_rescale=0.5,
    true_guidance=0.0,
    skip=4,
    fewest_forwards=3,
    checkpoints=(5, 10, 20),
)


def test_nodes_round_trip() -> None:
    data = node_info_to_proto(NODE).SerializeToString()
    assert node_info_from_proto(cluster_pb2.NodeHello.FromString(data)) == NODE


def test_a_node_says_whether_its_device_has_room_for_all() -> None:
    assert not NODE.is_crowded
    assert replace(NODE, weights_budget=6 * 2**30).is_crowded
    assert not replace(NODE, weights_budget=0).is_crowded


def test_seconds_of_loading_make_sense() -> None:
    hello = node_info_to_proto(NODE)
    hello.variants[0].load_s = float("nan")
    with pytest.raises(InvalidArgumentError, match="load_s"):
        node_info_from_proto(hello)


def test_work_carries_the_seconds_that_remain() -> None:
    back = work_from_proto(work_to_proto(WORK, remaining_s=4.0))
    assert back.deadline_s == 4.0
    assert work_from_proto(work_to_proto(WORK, remaining_s=WORK.deadline_s)) == WORK
    assert work_from_proto(work_to_proto(WORK, remaining_s=None)).deadline_s is None


def test_work_of_a_coordinator_that_knows_no_true_guidance_has_none() -> None:
    work = work_to_proto(WORK, remaining_s=None)
    work.ClearField("true_guidance")
    assert work_from_proto(work).true_guidance == 1.0


def set_seconds(hello: cluster_pb2.NodeHello, seconds: float) -> None:
    hello.variants[0].step_costs[1].seconds = seconds


BAD_HELLOS: list[tuple[str, Callable[[cluster_pb2.NodeHello], object]]] = [
    ("node", lambda hello: hello.ClearField("node")),
    ("node", lambda hello: setattr(hello, "node", "a/b")),
    ("node", lambda hello: setattr(hello, "node", "x" * 64)),
    ("slots", lambda hello: hello.ClearField("slots")),
    ("max_lanes", lambda hello: setattr(hello, "max_lanes", 1)),
    ("variants", lambda hello: hello.ClearField("variants")),
    ("variants", lambda hello: hello.variants.add()),
    ("variants", lambda hello: setattr(hello.variants[0].variant, "name", "small")),
    ("step_costs", lambda hello: hello.variants[0].ClearField("step_costs")),
    ("step_costs", lambda hello: setattr(hello.variants[1].step_costs[0], "lanes", 5)),
    ("step_costs", lambda hello: set_seconds(hello, float("nan"))),
    ("step_costs", lambda hello: set_seconds(hello, 0.0)),
    ("text_encode_s", lambda hello: setattr(hello.variants[0], "text_encode_s", -1.0)),
    ("decode_s", lambda hello: setattr(hello.variants[0], "decode_s", float("inf"))),
]


@pytest.mark.parametrize(("field", "spoil"), BAD_HELLOS)
def test_a_hello_that_makes_no_sense_names_its_field(
    field: str, spoil: Callable[[cluster_pb2.NodeHello], object]
) -> None:
    hello = node_info_to_proto(NODE)
    spoil(hello)
    with pytest.raises(InvalidArgumentError) as caught:
        node_info_from_proto(hello)
    assert caught.value.field == field


def test_another_protocol_version_is_refused() -> None:
    hello = node_info_to_proto(NODE)
    hello.protocol_version = 2
    with pytest.raises(FailedPreconditionError, match="the node speaks 2"):
        node_info_from_proto(hello)
