"""Prints microseconds and GB/s of every kernel and shape: `python -m argus.kernels.bench`.

Bytes are what the computation must read and write once, so a figure near the device's memory
bandwidth means that nothing is left to gain; torch moves more bytes than that and scores lower.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType

import torch

from argus.kernels.choose import NORM_MODULES, STEP_MODULES, working
from argus.kernels.norm_shape import NormShape
from argus.kernels.samples import NormSample, StepSample
from argus.kernels.timing import seconds_per_call

LATENTS = {
    "SDXL 1024": (4, 128, 128),
    "SD-1.5 512": (4, 64, 64),
    "FLUX 1024": (16, 128, 128),
}
"""(C, H, W) of the latents; FLUX as its VAE has them, before packing."""
ROWS = (1, 8)
STATES = (2, 3)
NORMS = {
    "SDXL UNet, first level": (2, 320, 128, 128),
    "SDXL UNet, last level": (2, 1280, 32, 32),
    "SD-1.5 UNet, first level": (2, 320, 64, 64),
    "SD-1.5 UNet, skip joined": (2, 2560, 16, 16),
    "VAE, first level of 1024": (1, 512, 128, 128),
    "VAE, last level of 1024": (1, 128, 1024, 1024),
}
GROUPS = 32
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}

Case = tuple[str, int, Callable[[ModuleType], Callable[[], object]]]
"""What is measured, the bytes it moves, and the call for an implementation."""


def step_cases(device: torch.device, dtype: torch.dtype) -> Iterator[Case]:
    """Yield gather and update of guided rows for every latent shape."""
    for name, latent in LATENTS.items():
        for states in STATES:
            for rows in ROWS:
                sample = StepSample.random(device, dtype, latent, states, rows)
                size, width = sample.states[0, 0].numel(), dtype.itemsize
                shown = f"{name}, {states} states, {rows} rows"
                gathered = 2 * rows * size * (states * 4 + width)
                yield f"gather {shown}", gathered, partial(_bind, sample.gather)
                updated = rows * size * (2 * states * 4 + 2 * width)
                yield f"update {shown}", updated, partial(_bind, sample.update)


def norm_cases(device: torch.device, dtype: torch.dtype) -> Iterator[Case]:
    """Yield GroupNorm + SiLU in both memory formats; the tensor is read twice and written once."""
    for name, shape in NORMS.items():
        for channels_last in (False, True):
            sample = NormSample.random(device, NormShape(shape, GROUPS, dtype, channels_last))
            layout = "channels-last" if channels_last else "planes"
            bytes_moved = 3 * sample.x.numel() * dtype.itemsize
            yield f"norm {name}, {layout}", bytes_moved, partial(_bind, sample.run)


def _bind(run: Callable[[ModuleType], object], module: ModuleType) -> Callable[[], object]:
    return partial(run, module)


def print_cases(
    cases: Iterator[Case], modules: dict[str, ModuleType], device: torch.device, graphed: bool
) -> None:
    """Measure each case with each implementation and print a line of Markdown for it."""
    names = list(modules)
    print("\n| case | " + " | ".join(f"{n} µs | {n} GB/s" for n in names) + " |")
    print("|---" * (1 + 2 * len(names)) + "|")
    for shown, bytes_moved, call in cases:
        cells = []
        for module in modules.values():
            seconds = seconds_per_call(call(module), device, graphed)
            cells.append(f"{seconds * 1e6:.1f} | {bytes_moved / seconds / 1e9:.0f}")
        print(f"| {shown} | " + " | ".join(cells) + " |", flush=True)


def main() -> int:
    """Measure everything on one device."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--dtype", choices=DTYPES, default="float16")
    parser.add_argument("--graphed", action="store_true", help="replay captured CUDA graphs")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("error: no CUDA device here; these kernels run on no other", file=sys.stderr)
        return 2
    device, dtype = torch.device(arguments.device), DTYPES[arguments.dtype]
    print(f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}, {arguments.dtype}")
    step = StepSample.random(device, dtype, LATENTS["SD-1.5 512"], 2, 1)
    norm = NormSample.random(device, NormShape((2, 320, 64, 64), GROUPS, dtype, False))
    for cases, (modules, left_out) in (
        (step_cases, working(STEP_MODULES, step)),
        (norm_cases, working(NORM_MODULES, norm)),
    ):
        for name, reason in left_out.items():
            print(f"{name} left out: {reason}")
        print_cases(cases(device, dtype), modules, device, arguments.graphed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
