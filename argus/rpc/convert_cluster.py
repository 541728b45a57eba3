"""What coordinator and nodes tell each other: protos to value types and back."""

from __future__ import annotations

import math
import re
from typing import Literal

from argus.errors import FailedPreconditionError, InvalidArgumentError
from argus.rpc.checks import shown
from argus.rpc.convert import (
    checked_request_to_proto,
    image_format_from_proto,
    image_format_to_proto,
    image_request_from_proto,
    variant_from_proto,
    variant_to_proto,
)
from argus.types import (
    ImageRequest,
    NodeInfo,
    ResolvedRequest,
    StepCosts,
    VariantCosts,
)
from argus.v1 import cluster_pb2, image_pb2

PROTOCOL_VERSION = 1
NODE_NAME = re.compile(r"[A-Za-z0-9._-]{1,63}")
MIN_LANES = 2
CLAIMED_BY_WORK: tuple[Literal["request_id", "prompt", "negative_prompt", "tenant"], ...] = (
    "request_id",
    "prompt",
    "negative_prompt",
    "tenant",
)
"""Fields of a request that are in its work as they came."""


def node_info_to_proto(node: NodeInfo) -> cluster_pb2.NodeHello:
    """Return the hello of a node."""
    return cluster_pb2.NodeHello(
        node=node.name,
        protocol_version=PROTOCOL_VERSION,
        argus_version=node.argus_version,
        device=node.device,
        device_name=node.device_name,
        memory_bytes=node.memory_bytes,
        slots=node.slots,
        max_lanes=node.max_lanes,
        variants=[_resident_to_proto(node, index) for index in range(len(node.variants))],
        cache_group=node.cache_group,
        weights_budget_bytes=node.weights_budget,
    )


def _resident_to_proto(node: NodeInfo, index: int) -> cluster_pb2.ResidentVariant:
    variant, costs = node.variants[index], node.costs[index]
    return cluster_pb2.ResidentVariant(
        weights_bytes=node.weights_bytes[index] if node.weights_bytes else 0,
        load_s=node.load_s[index] if node.load_s else 0.0,
        pinned=variant.name in node.pinned,
        variant=variant_to_proto(variant),
        step_costs=[
            cluster_pb2.StepCost(lanes=lanes, seconds=seconds)
            for lanes, seconds in zip(costs.steps.lanes, costs.steps.seconds, strict=True)
        ],
        text_encode_s=costs.text_encode_s,
        decode_s=costs.decode_s,
    )


def node_info_from_proto(hello: cluster_pb2.NodeHello) -> NodeInfo:
    """Return what a node said of itself, checked.

    Raises:
        FailedPreconditionError: it speaks another version of the protocol.
        InvalidArgumentError: names the field of the hello that makes no sense.
    """
    if hello.protocol_version != PROTOCOL_VERSION:
        raise FailedPreconditionError(
            f"protocol version {PROTOCOL_VERSION} is spoken here, the node speaks "
            f"{hello.protocol_version}"
        )
    check_node_name(hello.node)
    if hello.slots < 1:
        raise InvalidArgumentError("slots", "must be at least 1")
    if hello.max_lanes < MIN_LANES:
        raise InvalidArgumentError("max_lanes", f"must be at least {MIN_LANES}")
    names = [resident.variant.name for resident in hello.variants]
    if not names or "" in names or len(set(names)) != len(names):
        raise InvalidArgumentError(
            "variants", f"must be at least one, each with a name of its own, not {shown(names)}"
        )
    return NodeInfo(
        name=hello.node,
        device=hello.device,
        device_name=hello.device_name,
        memory_bytes=hello.memory_bytes,
        slots=hello.slots,
        max_lanes=hello.max_lanes,
        argus_version=hello.argus_version,
        variants=tuple(variant_from_proto(resident.variant) for resident in hello.variants),
        costs=tuple(_costs_from_proto(resident) for resident in hello.variants),
        cache_group=hello.cache_group,
        weights_budget=hello.weights_budget_bytes,
        weights_bytes=tuple(resident.weights_bytes for resident in hello.variants),
        load_s=tuple(_load_s(resident) for resident in hello.variants),
        pinned=tuple(resident.variant.name for resident in hello.variants if resident.pinned),
    )


def _load_s(resident: cluster_pb2.ResidentVariant) -> float:
    if not (math.isfinite(resident.load_s) and resident.load_s >= 0):
        raise InvalidArgumentError("load_s", f"must not be below 0, not {resident.load_s}")
    return resident.load_s


def check_node_name(name: str) -> None:
    """Raise InvalidArgumentError unless it is 1 to 63 characters of [A-Za-z0-9._-]."""
    if not NODE_NAME.fullmatch(name):
        raise InvalidArgumentError(
            "node", f"must be 1 to 63 characters of [A-Za-z0-9._-], not {shown(name)}"
        )


def _costs_from_proto(resident: cluster_pb2.ResidentVariant) -> VariantCosts:
    seconds = [cost.seconds for cost in resident.step_costs]
    if not all(math.isfinite(s) and s > 0 for s in seconds):
        raise InvalidArgumentError("step_costs", f"seconds must be above 0, not {shown(seconds)}")
    try:
        steps = StepCosts(tuple(cost.lanes for cost in resident.step_costs), tuple(seconds))
    except ValueError as error:
        raise InvalidArgumentError("step_costs", str(error)) from error
    for field, value in (
        ("text_encode_s", resident.text_encode_s),
        ("decode_s", resident.decode_s),
    ):
        if not math.isfinite(value) or value < 0:
            raise InvalidArgumentError(field, f"must not be below 0, not {value}")
    return VariantCosts(steps, resident.text_encode_s, resident.decode_s)


def work_to_proto(
    request: ResolvedRequest, remaining_s: float | None, claim: cluster_pb2.Claim | None = None
) -> cluster_pb2.Work:
    """Return the message that gives a row to a node.

    Args:
        request: what to run.
        remaining_s: seconds left until its deadline now, or None without a deadline.
        claim: for the coordinator that may take the row up; None: none may.
    """
    return cluster_pb2.Work(
        request_id=request.request_id,
        attempt=request.attempt,
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        seed=request.seed,
        width=request.width,
        height=request.height,
        steps=request.steps,
        guidance=request.guidance,
        sampler=request.sampler,
        variant=request.variant,
        level=request.level,
        deadline_s=remaining_s,
        format=image_format_to_proto(request.format),
        preview_every=request.preview_every,
        eta=request.eta,
        guidance_rescale=request.guidance_rescale,
        true_guidance=request.true_guidance,
        skip=request.skip,
        checkpoints=request.checkpoints,
        start_key=request.start_key,
        keep_key=request.keep_key,
        tenant=request.tenant,
        fewest_forwards=request.fewest_forwards,
        claim=claim,
    )


def claimed_request_to_proto(request: ImageRequest) -> image_pb2.GenerateRequest:
    """Return what a claim says of the client's request: all that its work does not say."""
    message = checked_request_to_proto(request)
    for field in CLAIMED_BY_WORK:
        message.ClearField(field)
    return message


def claimed_request_from_proto(work: cluster_pb2.Work) -> ImageRequest:
    """Return the client's request of a row that was given out with a claim, checked.

    Raises:
        InvalidArgumentError: names the field that makes no sense.
    """
    message = image_pb2.GenerateRequest()
    message.CopyFrom(work.claim.request)
    for field in CLAIMED_BY_WORK:
        setattr(message, field, getattr(work, field))
    return image_request_from_proto(message)


def work_from_proto(work: cluster_pb2.Work) -> ResolvedRequest:
    """Return the row to run; its `deadline_s` is in seconds from the arrival of the message.

    Raises:
        InvalidArgumentError: an image format this version does not know.
    """
    return ResolvedRequest(
        request_id=work.request_id,
        attempt=work.attempt,
        prompt=work.prompt,
        negative_prompt=work.negative_prompt,
        seed=work.seed,
        width=work.width,
        height=work.height,
        steps=work.steps,
        guidance=work.guidance,
        sampler=work.sampler,
        variant=work.variant,
        level=work.level,
        deadline_s=work.deadline_s if work.HasField("deadline_s") else None,
        format=image_format_from_proto(work.format),
        preview_every=work.preview_every,
        eta=work.eta,
        guidance_rescale=work.guidance_rescale,
        true_guidance=work.true_guidance if work.HasField("true_guidance") else 1.0,
        skip=work.skip,
        checkpoints=tuple(work.checkpoints),
        start_key=work.start_key,
        keep_key=work.keep_key,
        tenant=work.tenant,
        fewest_forwards=work.fewest_forwards,
    )
