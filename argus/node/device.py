"""The device a node runs on."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import torch

from argus.config import NodeConfig
from argus.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Device:
    """A device chosen and described; memory in bytes."""

    device: torch.device
    dtype: torch.dtype
    name: str
    memory_bytes: int


def open_device(config: NodeConfig) -> Device:
    """Choose device and dtype, and set the number of compute threads.

    Raises:
        ConfigError: the device does not exist here.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    wanted = config.device
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise ConfigError(f"node.device: {wanted!r} is no device; try cpu or cuda:0") from error
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise ConfigError("node.device: no CUDA device on this machine; use --device cpu")
        index = device.index or 0
        if index >= torch.cuda.device_count():
            raise ConfigError(f"node.device: cuda:{index} of {torch.cuda.device_count()} devices")
        device = torch.device("cuda", index)
        properties = torch.cuda.get_device_properties(index)
        name, memory = properties.name, int(properties.total_memory)
    elif device.type == "cpu":
        name = f"{processor_name()}, {torch.get_num_threads()} threads"
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    else:
        raise ConfigError(f"node.device: {wanted!r} is not served; use cpu or cuda")
    return Device(device, _dtype(config.dtype, device), name, memory)


def processor_name() -> str:
    """Return the processor as the system calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _dtype(wanted: str, device: torch.device) -> torch.dtype:
    if wanted == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    kinds = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    return kinds[wanted]
