"""From a profile to what nodes say of themselves: costs of variants, shapes of rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from argus.control.row_costs import RowShape
from argus.sim.batching import DeviceSeconds
from argus.sim.setting import SimSetting
from argus.sim.types import SimProfile
from argus.types import Level, NodeInfo, StepCosts, VariantCosts, VariantInfo

SIZE = 1024
"""Pixels of every row; nothing depends on it."""


@dataclass(frozen=True, slots=True)
class VariantSeconds:
    """What a variant takes on a node of speed 1: `encode + forwards · step + decode`."""

    step_s: float
    text_encode_s: float
    decode_s: float


def variant_seconds(profile: SimProfile, variant: str) -> VariantSeconds:
    """Return the step time of a variant, and what it takes beside its steps.

    The levels' seconds are a straight line over their forwards, by least squares. What is not
    stated to be for text and pixels and yet grows with no step is counted as decoding.
    """
    stated = profile.times(variant)
    levels = [level for level in profile.levels if level.variant == variant]
    forwards = np.array([level.forwards for level in levels], dtype=float)
    beside = stated.text_encode_s + stated.decode_s
    seconds = np.array([level.seconds for level in levels]) - beside
    step_s = float((seconds / forwards).mean())
    rest_s = 0.0
    if len(np.unique(forwards)) > 1:
        slope, rest = np.polyfit(forwards, seconds, 1)
        if slope > 0 and rest > 1e-6 * seconds.max():
            step_s, rest_s = float(slope), float(rest)
    return VariantSeconds(step_s, stated.text_encode_s, stated.decode_s + rest_s)


def device_seconds(profile: SimProfile, scale: float) -> dict[str, DeviceSeconds]:
    """Return what each variant takes on a node whose work takes `scale` times the profile's."""
    batching = profile.batching
    table = StepCosts(batching.lanes, batching.seconds_scale)
    lanes = range(1, batching.max_lanes + 1)
    found = {}
    for name in profile.variant_names:
        seconds = variant_seconds(profile, name)
        step_s = (0.0, *(seconds.step_s * scale * table.step_s(n) for n in lanes))
        found[name] = DeviceSeconds(step_s, seconds.text_encode_s * scale, seconds.decode_s * scale)
    return found


def control_levels(profile: SimProfile) -> tuple[Level, ...]:
    """Return the ladder as the control plane knows it."""
    reference = profile.levels[0].steps
    return tuple(
        Level(
            name=level.name,
            variant=level.variant,
            steps_fraction=level.steps / reference,
            quality=level.quality,
            skip_fraction=level.skip / level.steps,
        )
        for level in profile.levels
    )


def row_shapes(profile: SimProfile) -> tuple[RowShape, ...]:
    """Return the row of each level."""
    lanes = profile.batching.row_lanes
    return tuple(RowShape(x.variant, SIZE, SIZE, x.forwards, lanes) for x in profile.levels)


def node_name(index: int) -> str:
    """Return the name of a node."""
    return f"node-{index:03d}"


def node_info(profile: SimProfile, setting: SimSetting, index: int) -> NodeInfo:
    """Return what a node of the setting says of itself when it joins."""
    scale = setting.scale(index)
    return NodeInfo(
        name=node_name(index),
        device="sim",
        device_name="simulated",
        memory_bytes=0,
        slots=profile.batching.slots,
        max_lanes=profile.batching.max_lanes,
        argus_version="",
        variants=tuple(_variant_info(profile, name) for name in profile.variant_names),
        costs=tuple(_costs(profile, name, scale) for name in profile.variant_names),
        # Every variant counts as one byte: so many of them fit.
        weights_budget=setting.residents or 0,
        weights_bytes=(1,) * len(profile.variant_names),
        load_s=tuple(profile.times(name).load_s * scale for name in profile.variant_names),
    )


def _costs(profile: SimProfile, variant: str, scale: float) -> VariantCosts:
    seconds = variant_seconds(profile, variant)
    steps = tuple(seconds.step_s * scale * s for s in profile.batching.seconds_scale)
    return VariantCosts(
        StepCosts(profile.batching.lanes, steps),
        seconds.text_encode_s * scale,
        seconds.decode_s * scale,
    )


def _variant_info(profile: SimProfile, name: str) -> VariantInfo:
    return VariantInfo(
        name=name,
        pipeline="sim",
        width=SIZE,
        height=SIZE,
        size_multiple=8,
        max_size=SIZE,
        samplers=("ddim",),
        default_sampler="ddim",
        default_steps=profile.levels[0].steps,
        default_guidance=7.5 if profile.batching.row_lanes > 1 else 1.0,
    )
