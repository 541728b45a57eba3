"""Attention back ends: which can run here, putting one to use, and measuring which is fastest.

All families end in PyTorch's scaled_dot_product_attention, among whose kernels PyTorch's own switch
chooses. For xFormers, FLUX's processors go through diffusers' dispatch, which has a switch as well;
those of the UNets and of SD3 call PyTorch themselves and must be replaced. On the CPU there is one
back end, "sdpa": PyTorch's own choice.
"""

from __future__ import annotations

import importlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from diffusers.models.attention_dispatch import attention_backend
from torch.nn.attention import SDPBackend, sdpa_kernel

from argus.diffusion.adapter import PipelineAdapter
from argus.errors import InvalidArgumentError

log = logging.getLogger(__name__)

SDPA = "sdpa"
"""PyTorch's own choice among its kernels."""
MATH = "math"
"""Plain matrix products: what the others must agree with."""
XFORMERS = "xformers"
KERNELS: Mapping[str, Sequence[SDPBackend]] = {
    "flash": (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH),
    "cudnn": (SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH),
    "efficient": (SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH),
    MATH: (SDPBackend.MATH,),
}
"""Kernels by name, each with what steps in where a head's width or dtype rules it out."""
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 6e-2, torch.float16: 1e-2}
"""By dtype, how far an output may lie from that of plain products, relative to its largest value.

Some tens of roundings of that dtype: kernels sum in another order, and a wrong one is off by more.
"""
REPEATS = 3
LARGEST_PLAIN = 64 * 64
"""Latents above this many are not tried with plain products."""
_switch = threading.RLock()


@dataclass(frozen=True, slots=True)
class Measured:
    """What was found of one shape.

    Attributes:
        seconds: of a forward, by back end, for those that ran.
        differences: from plain products, relative to their largest value, for the same.
        failed: why the others did not run.
        tolerance: that `best` allows.
    """

    seconds: Mapping[str, float]
    differences: Mapping[str, float]
    failed: Mapping[str, str]
    tolerance: float

    @property
    def best(self) -> str:
        """The fastest that agrees with plain products."""
        # A difference that is not a number agrees with nothing.
        right = [n for n in self.seconds if self.differences[n] <= self.tolerance] or [SDPA]
        if right == [SDPA]:
            return SDPA
        return min(right, key=lambda name: self.seconds[name])


def back_ends(device: torch.device) -> tuple[str, ...]:
    """Return the names that `use` takes on a device."""
    if device.type != "cuda":
        return (SDPA,)
    found = (SDPA, *KERNELS)
    return found if xformers_fault(device) else (*found, XFORMERS)


@lru_cache(maxsize=8)
def xformers_fault(device: torch.device) -> str:
    """Return why xFormers cannot be used on a device, or '' if it can; it is tried once."""
    try:
        ops = importlib.import_module("xformers.ops")
        x = torch.ones((1, 16, 1, 64), dtype=torch.float16, device=device)
        good = bool(torch.isfinite(ops.memory_efficient_attention(x, x, x)).all())
    except Exception as error:  # a package built for another torch fails in any way it likes
        said = str(error).strip().splitlines() or ["no reason given"]
        fault = f"{type(error).__name__}: {said[0]}"
    else:
        fault = "" if good else "its result is not finite"
    if fault:
        log.info("xformers is not used on %s: %s", device, fault)
    return fault


@contextmanager
def use(adapter: PipelineAdapter, name: str) -> Iterator[None]:
    """Run the adapter's forwards with a back end; before it is left, all is put back.

    PyTorch's switch is one for the whole process: while this lasts, other attention, such as a
    VAE's, goes the same way, which changes its speed and its last bits but not what it computes.
    One thread at a time has it; others wait.

    Raises:
        InvalidArgumentError: no such back end here.
    """
    known = back_ends(adapter.device)
    if name not in known:
        raise InvalidArgumentError("attention", f"must be one of {', '.join(known)}, not {name!r}")
    with _switch, ExitStack() as stack:
        if name in KERNELS:
            stack.enter_context(sdpa_kernel(list(KERNELS[name]), set_priority=True))
        elif name == XFORMERS:
            for module in adapter.forward_modules().values():
                stack.enter_context(_with_xformers(module))
        yield


@contextmanager
def _with_xformers(module: Any) -> Iterator[None]:
    """Switch a diffusers model to xFormers."""
    before = dict(module.attn_processors)
    if dispatches(module):
        with attention_backend(XFORMERS):
            yield
        return
    module.enable_xformers_memory_efficient_attention()
    try:
        yield
    finally:
        module.set_attn_processor(before)


def dispatches(module: Any) -> bool:
    """Whether a diffusers model's attention goes through diffusers' dispatch."""
    return any(hasattr(p, "_attention_backend") for p in module.attn_processors.values())


def measure(adapter: PipelineAdapter, lanes: int, latent: tuple[int, int, int]) -> Measured:
    """Time one forward with every back end and compare the outputs with plain products.

    Args:
        adapter: resident on its device.
        lanes: of the forward.
        latent: (channels, height, width).
    """
    seconds: dict[str, float] = {}
    outputs: dict[str, torch.Tensor] = {}
    failed: dict[str, str] = {}
    forward = _sample_forward(adapter, lanes, latent)
    names = [n for n in back_ends(adapter.device) if n != MATH or _is_small(latent)]
    for name in names:
        try:
            with use(adapter, name):
                outputs[name] = forward().float().cpu()
                seconds[name] = min(_timed(forward, adapter.device) for _ in range(REPEATS))
        except (RuntimeError, ValueError, NotImplementedError) as error:
            failed[name] = (str(error).strip().splitlines() or [type(error).__name__])[0]
            seconds.pop(name, None)
            outputs.pop(name, None)
    truth = outputs.get(MATH, outputs.get(SDPA))
    if truth is None:
        raise RuntimeError(f"no attention back end runs {adapter.info.name}: {failed}")
    scale = truth.abs().max().clamp(min=1e-12)
    differences = {n: float((out - truth).abs().max() / scale) for n, out in outputs.items()}
    return Measured(seconds, differences, failed, TOLERANCE[adapter.dtype])


def _is_small(latent: tuple[int, int, int]) -> bool:
    """Whether plain products fit: they keep every weight of every head at once."""
    return latent[1] * latent[2] <= LARGEST_PLAIN


def _sample_forward(
    adapter: PipelineAdapter, lanes: int, latent: tuple[int, int, int]
) -> Callable[[], torch.Tensor]:
    generator = torch.Generator("cpu").manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(adapter.device, adapter.dtype)

    latents, times = draw(lanes, *latent), torch.linspace(999.0, 1.0, lanes).to(adapter.device)
    texts = {name: draw(lanes, *shape) for name, shape in adapter.conditioning.items()}
    return lambda: adapter.forward(latents, times, texts)


def _timed(forward: Callable[[], torch.Tensor], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    forward()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
