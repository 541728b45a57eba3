"""Which devices the nodes of one machine get."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

AUTO = "auto"
LIST_GPUS = ("nvidia-smi", "-L")
COUNT_DEVICES = (sys.executable, "-P", "-c", "import torch; print(torch.cuda.device_count())")
PATIENCE_S = 60.0


def deal(devices: str, nodes: int) -> list[str]:
    """Return the device of each node.

    Args:
        devices: names separated by commas, dealt in turn. `auto` alone means the CUDA devices of
            this machine where there are several, and is left to the nodes elsewhere.
        nodes: how many nodes there are.
    """
    names = [name.strip() for name in devices.split(",")]
    if names == [AUTO] and nodes > 1 and (count := cuda_devices()) > 1:
        names = [f"cuda:{i}" for i in range(count)]
    return [names[i % len(names)] for i in range(nodes)]


def is_processor(device: str) -> bool:
    """Return whether a node on `device` computes on the processors of this machine."""
    return device == "cpu" or (device == AUTO and not cuda_devices())


def cuda_devices() -> int:
    """Return how many CUDA devices a node could use.

    torch knows, which also heeds how it was built and CUDA_VISIBLE_DEVICES; it is asked in a
    process of its own, since importing it takes seconds and memory, and only where the driver
    lists more than one.
    """
    listed = [line for line in _output(LIST_GPUS).splitlines() if line.startswith("GPU ")]
    if len(listed) < 2:
        return len(listed)
    counted = _output(COUNT_DEVICES).strip()
    return int(counted) if counted.isdigit() else 0


def _output(command: Sequence[str]) -> str:
    """Return what a command prints; nothing where it is missing, fails or takes too long."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=PATIENCE_S
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout
