"""From a configuration to a warm engine and the node's account of itself."""

from __future__ import annotations

import logging
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path

import torch

import argus
from argus.config import NodeConfig
from argus.diffusion.adapter import PipelineAdapter, load_variant
from argus.engine.buckets import describe
from argus.engine.engine import Engine, EngineOptions
from argus.engine.images import encode_image
from argus.node.device import Device, open_device
from argus.node.folders import model_folders
from argus.types import ImageFormat, NodeInfo, VariantCosts

log = logging.getLogger(__name__)


def build_engine(config: NodeConfig) -> tuple[Engine, NodeInfo]:
    """Load every model, warm up, measure, and return the engine with the node's description.

    Raises:
        ConfigError: the device does not exist here.
        ModelError: a folder is missing, broken, of an unknown family, or named like another.
    """
    device = open_device(config)
    adapters = _load(model_folders(config), device)
    options = EngineOptions(config.slots, config.max_lanes, config.max_waiting)
    engine = Engine(adapters, options)
    for name, buckets in engine.buckets.items():
        log.info(
            "%s is warm: lanes %s, pictures %s on the batch, %.1f ms a step alone",
            name,
            describe(buckets.sizes),
            "do not depend" if buckets.exact else "may depend within rounding",
            1000 * buckets.costs.seconds[0],
        )
    return engine, describe_node(config, device, engine)


def _load(folders: Sequence[Path], device: Device) -> list[PipelineAdapter]:
    adapters: list[PipelineAdapter] = []
    for folder in folders:
        start = time.perf_counter()
        adapter = load_variant(folder, device.device, device.dtype)
        adapters.append(adapter)
        log.info("%s loaded in %.1f s", adapter.info.name, time.perf_counter() - start)
    return adapters


def describe_node(config: NodeConfig, device: Device, engine: Engine) -> NodeInfo:
    """Return what the node says of itself, with what every variant was measured to cost."""
    adapters = list(engine.adapters.values())
    return NodeInfo(
        name=config.name or f"{platform.node().split('.')[0]}-{os.getpid()}",
        device=str(device.device),
        device_name=device.name,
        memory_bytes=device.memory_bytes,
        slots=config.slots,
        max_lanes=max(buckets.max_lanes for buckets in engine.buckets.values()),
        argus_version=argus.__version__,
        variants=tuple(adapter.info for adapter in adapters),
        costs=tuple(_measure(adapter, engine) for adapter in adapters),
    )


def _measure(adapter: PipelineAdapter, engine: Engine) -> VariantCosts:
    shape = adapter.latent_shape(adapter.info.width, adapter.info.height)
    latents = torch.zeros((1, *shape), device=adapter.device)
    text_s, decode_s = [], []
    for _ in range(3):
        start = time.perf_counter()
        encoded = adapter.encode("a picture", False, adapter.info.width, adapter.info.height)
        for tensor in encoded.tensors.values():
            tensor.cpu()  # waits for the device
        text_s.append(time.perf_counter() - start)
        start = time.perf_counter()
        encode_image(adapter.decode(latents)[0].numpy(), ImageFormat.PNG)
        decode_s.append(time.perf_counter() - start)
    return VariantCosts(engine.buckets[adapter.info.name].costs, min(text_s), min(decode_s))
