"""From a configuration to a warm engine and the node's account of itself."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

import argus
from argus.cache.fingerprint import folder_fingerprint
from argus.config import Config, NodeConfig
from argus.diffusion.adapter import load_variant
from argus.diffusion.size import folder_weights_bytes
from argus.engine.buckets import describe
from argus.engine.engine import Engine, EngineOptions
from argus.errors import ConfigError, ModelError
from argus.node.cache import NodeCache
from argus.node.device import Device, open_device
from argus.node.folders import model_folders
from argus.types import NodeInfo

log = logging.getLogger(__name__)

SHARE_OF_WEIGHTS = 0.8
"""Of a CUDA device's memory, unless a budget is set; the rest is for latents and activations."""


@dataclass(frozen=True, slots=True)
class Node:
    """What a node daemon is made of.

    Attributes:
        engine: warm.
        info: what the node says of itself.
        cache: of states; None where it is off.
    """

    engine: Engine
    info: NodeInfo
    cache: NodeCache | None

    def close(self) -> None:
        """Stop the engine, then write what is left to be cached."""
        self.engine.close()
        if self.cache is not None:
            self.cache.close()


def build_node(config: Config) -> Node:
    """Load every model, warm up, measure, and open the cache.

    Raises:
        ConfigError: the device does not exist here, a pinned variant is not among the models, or
            the cache's folder cannot be used.
        ModelError: a folder is missing, broken, of an unknown family, named like another, or
            larger than the memory budget.
    """
    name = config.node.name or _own_name(config)
    device = open_device(config.node)
    cache = None
    if config.cache.mode != "off":
        half = device.dtype is not torch.float32
        cache = NodeCache(config.cache, name, half=half)
    try:
        engine = build_engine(config.node, device)
    except BaseException:
        if cache is not None:
            cache.close()
        raise
    prints = {}
    if cache is not None:
        folders = model_folders(config.node)
        prints = {folder.resolve().name: folder_fingerprint(folder) for folder in folders}
    info = describe_node(config.node, name, device, engine, prints)
    return Node(engine, replace(info, cache_group=cache.group if cache else ""), cache)


def _own_name(config: Config) -> str:
    """Return a name that no other node has.

    Where states are kept in a folder the name says where they lie, so it stays the same from start
    to start as long as each device has one node; two such nodes must be told apart by name.
    """
    host = platform.node().split(".")[0]
    if config.cache.folder and config.cache.mode != "off":
        return f"{host}-{config.node.device.replace(':', '-')}"
    return f"{host}-{os.getpid()}"


def build_engine(config: NodeConfig, device: Device) -> Engine:
    """Load every model, warm up and measure.

    Where the memory budget does not hold all of them, the first named are resident at the start.

    Raises:
        ConfigError: a pinned variant is not among the models.
        ModelError: a folder is missing, broken, of an unknown family, named like another, or
            larger than the budget.
    """
    folders = model_folders(config)
    names = [folder.resolve().name for folder in folders]
    for name in config.pinned:
        if name not in names:
            raise ConfigError(f"node.pinned: {name!r} is none of {', '.join(names)}")
    options = _options(config, device)
    _check_budget(folders, config.pinned, options.weights_bytes, device.dtype.itemsize)
    engine = Engine((), options)
    try:
        # Loading one may park another, those unused for longest first.
        for folder in reversed(folders):
            _load(engine, folder, device, folder.resolve().name in config.pinned)
    except BaseException:
        engine.close()
        raise
    return engine


def _check_budget(
    folders: Sequence[Path], pinned: Sequence[str], budget: int, itemsize: int
) -> None:
    """Raise ModelError where some variant would never fit beside those that are pinned."""
    if not budget:
        return
    sizes = {f.resolve().name: folder_weights_bytes(f, itemsize) for f in folders}
    held = sum(sizes[name] for name in pinned)
    for name, size in sizes.items():
        needed = held if name in pinned else held + size
        if needed > budget:
            others = [other for other in pinned if other != name]
            beside = f" beside the pinned {', '.join(others)}" if others else ""
            raise ModelError(
                f"node.weights_bytes: {name}{beside} takes {needed:,} bytes once loaded, more than "
                f"the budget of {budget:,}"
            )


def _options(config: NodeConfig, device: Device) -> EngineOptions:
    weights_bytes = config.weights_bytes
    if not weights_bytes and device.device.type == "cuda":
        weights_bytes = int(SHARE_OF_WEIGHTS * device.memory_bytes)
    return EngineOptions(
        slots=config.slots,
        max_lanes=config.max_lanes,
        max_waiting=config.max_waiting,
        weights_bytes=weights_bytes,
        host_bytes=config.host_bytes,
        graphs=config.graphs,
        fused_update=config.kernels,
        fused_norms=config.kernels,
    )


def _load(engine: Engine, folder: Path, device: Device, pinned: bool) -> None:
    size = folder_weights_bytes(folder, device.dtype.itemsize)
    load = partial(load_variant, folder, device.device, device.dtype)
    resident = engine.load(folder, size, load, pinned=pinned).result()
    buckets = resident.buckets
    log.info(
        "%s is warm: lanes %s, pictures %s on the batch, %.1f ms a step alone%s",
        resident.name,
        describe(buckets.sizes),
        "do not depend" if buckets.exact else "may depend within rounding",
        1000 * buckets.costs.seconds[0],
        f", {resident.forwards.graphs} CUDA graphs" if resident.forwards.graphs else "",
    )


def describe_node(
    config: NodeConfig,
    name: str,
    device: Device,
    engine: Engine,
    fingerprints: Mapping[str, str],
) -> NodeInfo:
    """Return what the node says of itself, with what every variant was measured to cost.

    Args:
        config: the node's settings.
        name: the node's.
        device: what it runs on.
        engine: warm.
        fingerprints: of the weights of variants whose states are cached.
    """
    names = [folder.resolve().name for folder in model_folders(config)]
    residents = [engine.residents[variant] for variant in names]
    return NodeInfo(
        name=name,
        device=str(device.device),
        device_name=device.name,
        memory_bytes=device.memory_bytes,
        slots=config.slots,
        max_lanes=max(resident.buckets.max_lanes for resident in residents),
        argus_version=argus.__version__,
        variants=tuple(
            replace(resident.adapter.info, weights=fingerprints.get(resident.name, ""))
            for resident in residents
        ),
        costs=tuple(resident.costs for resident in residents),
        weights_budget=engine.options.weights_bytes,
        weights_bytes=tuple(resident.adapter.weights_bytes for resident in residents),
        load_s=tuple(resident.move_s for resident in residents),
        pinned=tuple(resident.name for resident in residents if resident.pinned),
    )
