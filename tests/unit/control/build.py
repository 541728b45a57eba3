"""Values the tests of this folder share."""

from __future__ import annotations

from argus.control.backlog import NodeBacklog
from argus.control.row_costs import RowShape
from argus.types import NodeInfo, StepCosts, VariantCosts, VariantInfo

COSTS = VariantCosts(
    StepCosts(lanes=(1, 2, 4, 8), seconds=(0.10, 0.12, 0.18, 0.30)),
    text_encode_s=0.05,
    decode_s=0.20,
)
SMALL_COSTS = VariantCosts(
    StepCosts(lanes=(1, 2, 4, 8), seconds=(0.03, 0.04, 0.06, 0.10)),
    text_encode_s=0.05,
    decode_s=0.20,
)


def variant(name: str = "base", **changes: object) -> VariantInfo:
    values: dict[str, object] = {
        "name": name,
        "pipeline": "StableDiffusionPipeline",
        "width": 64,
        "height": 64,
        "size_multiple": 8,
        "max_size": 128,
        "samplers": ("ddim", "euler"),
        "default_sampler": "ddim",
        "default_steps": 50,
        "default_guidance": 5.0,
    }
    return VariantInfo(**(values | changes))  # type: ignore[arg-type]


def node(
    name: str = "n1",
    *,
    slots: int = 16,
    max_lanes: int = 8,
    costs: dict[str, VariantCosts] | None = None,
) -> NodeBacklog:
    held = {"base": COSTS} if costs is None else costs
    return NodeBacklog(
        NodeInfo(
            name=name,
            device="cpu",
            device_name="test",
            memory_bytes=2**30,
            slots=slots,
            max_lanes=max_lanes,
            argus_version="0",
            variants=tuple(variant(v) for v in held),
            costs=tuple(held.values()),
        )
    )


def row(steps: int = 50, lanes: int = 2, variant: str = "base", size: int = 64) -> RowShape:
    return RowShape(variant, size, size, steps, lanes)
