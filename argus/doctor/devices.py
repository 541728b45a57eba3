"""The devices of this machine, and the one that a node would run on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from typing import TYPE_CHECKING

import psutil

from argus.config import NodeConfig
from argus.doctor.findings import Finding, failed, good, size, warning
from argus.errors import ConfigError

if TYPE_CHECKING:
    from argus.node.device import Device

CHECK = "device"
DRIVER = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
PATIENCE_S = 30.0


def check_device(config: NodeConfig) -> tuple[list[Finding], Device | None]:
    """Return what was found of all devices, and the one that the settings choose, if any."""
    # Seconds of imports that no other command should wait for.
    from argus.node.device import open_device

    drivers = driver_versions()
    findings = [*_cuda(drivers)]
    try:
        chosen = open_device(config)
    except ConfigError as error:
        remedy = "name a device that is here, or install a torch that is built for it"
        return [*findings, failed(CHECK, str(error), remedy)], None
    if chosen.device.type == "cpu":
        findings.append(_cpu(chosen))
        if drivers and config.device == "auto":
            findings.append(_unseen(len(drivers)))
    kind = str(chosen.dtype).removeprefix("torch.")
    said = f"a node here runs on {chosen.device} in {kind}"
    findings.append(good(CHECK, said, device=str(chosen.device), dtype=kind))
    return findings, chosen


def check_attention(device: Device) -> Finding:
    """Return which attention back ends a node would measure against each other."""
    from argus.diffusion.attention import XFORMERS, back_ends, xformers_fault

    names = back_ends(device.device)
    said = f"{', '.join(names)} on {device.device}"
    if device.device.type == "cuda" and XFORMERS not in names:
        fault = xformers_fault(device.device)
        return good("attention", f"{said}; xformers is not used ({fault})", back_ends=names)
    return good("attention", said, back_ends=names)


def driver_versions() -> list[str]:
    """Return the driver's version for each GPU that NVIDIA's driver lists; none without one."""
    try:
        done = subprocess.run(
            DRIVER, capture_output=True, text=True, check=True, timeout=PATIENCE_S
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def _cuda(drivers: list[str]) -> Iterator[Finding]:
    import torch

    from argus.node.build import SHARE_OF_WEIGHTS

    driver = drivers[0] if drivers else "unknown"
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        capability = (properties.major, properties.minor)
        try:
            free, total = torch.cuda.mem_get_info(index)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            yield failed(
                CHECK, f"cuda:{index} {properties.name} cannot be used: {reason}", "see nvidia-smi"
            )
            continue
        said = (
            f"cuda:{index} {properties.name}, {size(total)} of memory ({size(free)} free), compute "
            f"capability {capability[0]}.{capability[1]}, driver {driver}, CUDA "
            f"{torch.version.cuda} in torch"
        )
        facts = {
            "device": f"cuda:{index}",
            "name": properties.name,
            "memory_bytes": total,
            "free_bytes": free,
            "compute_capability": f"{capability[0]}.{capability[1]}",
            "driver": driver,
        }
        if not runs_on(capability, torch.cuda.get_arch_list()):
            remedy = f"install a torch that is built for sm_{capability[0]}{capability[1]}"
            yield failed(CHECK, f"{said}; this torch is not built for it", remedy, **facts)
        elif free < SHARE_OF_WEIGHTS * total:
            remedy = "end what else runs on it, or set node.weights_bytes"
            yield warning(CHECK, said, remedy, **facts)
        else:
            yield good(CHECK, said, **facts)


def runs_on(capability: tuple[int, int], architectures: list[str]) -> bool:
    """Return whether a torch built for some architectures runs on a device.

    Code for sm_XY runs on devices of the same major version that are not older; compute_XY is
    compiled for newer ones when it is loaded.

    Args:
        capability: of the device, major and minor.
        architectures: as torch.cuda.get_arch_list() has them, such as sm_90 or compute_100.
    """
    for name in architectures:
        kind, _, digits = name.partition("_")
        number = digits.rstrip("af")
        if not number.isdigit():
            continue
        major, minor = int(number[:-1]), int(number[-1])
        if kind == "sm" and major == capability[0] and minor <= capability[1]:
            return True
        if kind == "compute" and (major, minor) <= capability:
            return True
    return False


def _cpu(device: Device) -> Finding:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = psutil.virtual_memory()
    said = (
        f"cpu {device.name}, {cores} cores to use, {size(memory.total)} of memory "
        f"({size(memory.available)} available)"
    )
    facts = {
        "device": "cpu",
        "threads": torch.get_num_threads(),
        "cores": cores,
        "memory_bytes": memory.total,
        "free_bytes": memory.available,
    }
    if cores is not None and torch.get_num_threads() > cores:
        remedy = f"set node.threads to {cores} or less"
        return warning(CHECK, f"{said}; more threads than cores", remedy, **facts)
    return good(CHECK, said, **facts)


def _unseen(gpus: int) -> Finding:
    import torch

    return warning(
        CHECK,
        f"NVIDIA's driver lists {gpus} GPUs, but torch {torch.__version__} sees none",
        "install a torch that is built for CUDA, or look at CUDA_VISIBLE_DEVICES",
    )
