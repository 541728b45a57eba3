"""Measures what variants cost on this device: the cost part of a profile."""

from __future__ import annotations

import datetime
import gc
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from argus.control.profile import Circumstances, CostProfile, VariantProfile
from argus.diffusion.adapter import PipelineAdapter, load_variant
from argus.engine.buckets import describe, probe_buckets
from argus.errors import InvalidArgumentError, ModelError
from argus.node.device import Device
from argus.node.gauge import Gauge
from argus.node.size_costs import PROMPT, Say, Size, measure_size, shown_bytes, shown_s
from argus.types import VariantInfo

PACKAGES = ("argus-serve", "torch", "diffusers", "transformers", "numpy", "pillow")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure.

    Attributes:
        folders: diffusers folders.
        max_lanes: lanes of the widest forward.
        sizes: (width, height) in pixels, beside the native size of each variant.
        command: what asked for it.
    """

    folders: Sequence[Path]
    max_lanes: int
    sizes: Sequence[Size]
    command: str


def measure_profile(plan: Plan, device: Device, say: Say) -> CostProfile:
    """Load and measure one variant after the other; takes minutes where models are large.

    Args:
        plan: what to measure.
        device: where.
        say: told of every measurement, a line each.

    Raises:
        ModelError: a folder cannot be served, or does not fit in memory.
        InvalidArgumentError: a variant does not make pictures of a size of the plan.
    """
    gauge = Gauge(device.device)
    variants = tuple(_measure(folder, plan, device, gauge, say) for folder in plan.folders)
    return CostProfile(_circumstances(plan, device, gauge), variants)


def _circumstances(plan: Plan, device: Device, gauge: Gauge) -> Circumstances:
    versions = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    if torch.version.cuda is not None:
        versions["cuda"] = torch.version.cuda
    return Circumstances(
        date=datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds"),
        command=plan.command,
        device=str(device.device),
        device_name=device.name,
        memory_bytes=device.memory_bytes,
        threads=torch.get_num_threads(),
        dtype=str(device.dtype).removeprefix("torch."),
        system=f"{platform.system()} {platform.machine()}",
        bytes_measured=gauge.meter.how,
        versions=versions,
    )


def _measure(folder: Path, plan: Plan, device: Device, gauge: Gauge, say: Say) -> VariantProfile:
    name = folder.resolve().name
    try:
        return _measure_loaded(folder, plan, device, gauge, lambda line: say(f"{name}: {line}"))
    except torch.cuda.OutOfMemoryError as error:
        raise ModelError(
            f"{folder}: out of memory on {device.device}; try fewer lanes or smaller sizes"
        ) from error
    except ModelError as error:
        if str(folder) in str(error):
            raise
        raise ModelError(f"{folder}: {error}") from error
    finally:
        _release()


def _measure_loaded(
    folder: Path, plan: Plan, device: Device, gauge: Gauge, say: Say
) -> VariantProfile:
    say("loading")
    adapter, load_s, weights_bytes = _load(folder, device, gauge)
    say(f"loaded in {shown_s(load_s)}, {shown_bytes(weights_bytes)}")
    info = adapter.info
    native = (info.width, info.height)
    sizes = [native, *(size for size in dict.fromkeys(plan.sizes) if size != native)]
    for size in sizes:
        _check_size(info, size)
    text_encode_s = gauge.best_s(lambda: adapter.encode(PROMPT, False, *native))
    say(f"encoding a text {shown_s(text_encode_s)}")
    say(f"comparing up to {plan.max_lanes} lanes")
    buckets = probe_buckets(adapter, plan.max_lanes)
    say(f"runs {describe(buckets.sizes)} lanes")
    return VariantProfile(
        name=info.name,
        pipeline=info.pipeline,
        load_s=load_s,
        weights_bytes=weights_bytes,
        text_encode_s=text_encode_s,
        exact=buckets.exact,
        sizes=tuple(
            measure_size(adapter, size, buckets.sizes, gauge, _at(size, say)) for size in sizes
        ),
    )


def _at(size: Size, say: Say) -> Say:
    return lambda line: say(f"{size[0]}x{size[1]}: {line}")


def _load(folder: Path, device: Device, gauge: Gauge) -> tuple[PipelineAdapter, float, int | None]:
    """Return the variant, the seconds it took to load and the bytes it takes.

    It is loaded twice: the first time imports the libraries of its family, and what they take
    is no cost of the variant.
    """
    load_variant(folder, device.device, device.dtype)
    _release()
    drop_from_file_cache(folder)
    loaded: list[PipelineAdapter] = []
    taken_s: list[float] = []

    def load() -> None:
        loaded.append(load_variant(folder, device.device, device.dtype))

    weights_bytes = gauge.meter.held_after(lambda: taken_s.append(gauge.once_s(load)))
    return loaded[0], taken_s[0], weights_bytes


def drop_from_file_cache(folder: Path) -> None:
    """Ask the system to forget what it keeps of the folder's files, so that a load reads them.

    Linux does so for pages that no process has mapped; elsewhere nothing happens.
    """
    if sys.platform != "linux":
        return
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _check_size(info: VariantInfo, size: Size) -> None:
    multiple = info.size_multiple
    if not all(multiple <= side <= info.max_size and side % multiple == 0 for side in size):
        raise InvalidArgumentError(
            "sizes",
            f"variant {info.name} makes multiples of {multiple} from {multiple} to "
            f"{info.max_size} pixels, not {size[0]}x{size[1]}",
        )


def _release() -> None:
    """Give back the memory of what is no longer used."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
