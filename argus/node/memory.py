"""How much memory a piece of work takes, as far as the device and the system tell."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


class MemoryMeter(Protocol):
    """Reads the memory of this process on one device; bytes are None where nothing can be told."""

    how: str
    """How bytes are measured, or why they are not."""

    def held_after(self, work: Callable[[], object]) -> int | None:
        """Return the bytes that `work` takes and keeps."""
        ...

    def peak_of(self, work: Callable[[], object]) -> int | None:
        """Return the most bytes that `work` takes beyond what was held before it."""
        ...


def open_meter(device: torch.device) -> MemoryMeter:
    """Return the meter of a device."""
    if device.type == "cuda":
        return CudaMeter(device)
    try:
        meter = ResidentMeter()
        meter.peak_of(lambda: None)
    except (OSError, KeyError, AttributeError) as error:
        return NoMeter(f"not measured: the system does not tell ({error})")
    return meter


class CudaMeter:
    """The allocator of torch, which counts exactly."""

    how = "torch.cuda.memory_allocated and max_memory_allocated"

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def held_after(self, work: Callable[[], object]) -> int | None:
        """Return the growth of the allocated bytes."""
        gc.collect()
        before = torch.cuda.memory_allocated(self._device)
        work()
        torch.cuda.synchronize(self._device)
        return torch.cuda.memory_allocated(self._device) - before

    def peak_of(self, work: Callable[[], object]) -> int | None:
        """Return the highest allocated bytes above those at the start."""
        torch.cuda.synchronize(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        before = torch.cuda.memory_allocated(self._device)
        work()
        torch.cuda.synchronize(self._device)
        return torch.cuda.max_memory_allocated(self._device) - before


class ResidentMeter:
    """The resident set of the process under Linux, with memory that is merely kept given back.

    Raises:
        OSError, KeyError, AttributeError: this system has no such thing.
    """

    how = "growth of the resident set of the process (VmRSS, VmHWM); within some MB"

    def __init__(self) -> None:
        self._trim = ctypes.CDLL(None).malloc_trim

    def held_after(self, work: Callable[[], object]) -> int | None:
        """Return the growth of the resident set; None where it shrank."""
        self._settle()
        before = _resident("VmRSS")
        work()
        self._settle()
        return _not_negative(_resident("VmRSS") - before)

    def peak_of(self, work: Callable[[], object]) -> int | None:
        """Return the highest resident set above that at the start."""
        self._trim(0)
        _CLEAR_REFS.write_text(_RESET_PEAK, encoding="ascii")
        before = _resident("VmRSS")
        work()
        return _not_negative(_resident("VmHWM") - before)

    def _settle(self) -> None:
        gc.collect()
        self._trim(0)


class NoMeter:
    """Measures nothing, and says why."""

    def __init__(self, how: str) -> None:
        self.how = how

    def held_after(self, work: Callable[[], object]) -> int | None:
        """Do the work."""
        work()
        return None

    def peak_of(self, work: Callable[[], object]) -> int | None:
        """Leave the work undone: it would serve nothing else."""
        return None


def _resident(field: str) -> int:
    """Return a field of the process's status, bytes."""
    pairs = (line.split(":", 1) for line in _STATUS.read_text(encoding="ascii").splitlines())
    return 1024 * int(dict(pairs)[field].split()[0])


def _not_negative(grown: int) -> int | None:
    return grown if grown >= 0 else None
